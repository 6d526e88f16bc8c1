"""All raw images → one file of squares and a hash of each, on all cores; memory does not grow with their number."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.prepare import near_duplicates
from stages.prepare.picture import Canvas, Decoded, NotAPicture, decode, pixel_sha256, to_square
from stages.prepare.processes import images_of_a_chunk, processes_for, results
from stages.prepare.reader import Container, Place, Reader
from stages.prepare.resize import by_torch


class Recipe(NamedTuple):
    """What a process needs to know: where the bytes are, where the squares go, and how they are made."""

    containers: list[Container]
    target: Path
    side: int
    resize: str


class Chunk(NamedTuple):
    """The images with ids from `start` to before `stop`; (id, *Place) of those that are to be decoded."""

    start: int
    stop: int
    rows: list[tuple[int, int, str | None, int, int]]


class Result(NamedTuple):
    """Per image that was to be decoded: (id, SHA-256 of its pixels or None, note, width, height), and its descriptor
    (near_duplicates.py); whether all of them are grey."""

    images: list[tuple[int, bytes | None, str, int, int]]
    descriptors: list[bytes | None]
    grey: bool


def decode_all(table: sqlite3.Connection, recipe: Recipe) -> bool:
    """Decode the images without a status; write image `id` as uint8 S×S×3 at its place in `recipe.target`.

    Fills in width, height, sha256, descriptor, note, and the status `corrupt` of what is not a whole picture. Returns
    whether all are grey.
    """
    total, size = table.execute("select count(*), coalesce(sum(size), 0) from images where status = ''").fetchone()
    chunks = _chunks(table, images_of_a_chunk(total, size))
    recipe.target.touch()
    grey = True
    updates = table.cursor()
    with tqdm(total=total, unit="image", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        for result in results(_decode_chunk, chunks, _start_process, recipe, processes_for(size), "prepare"):
            grey &= result.grey
            updates.executemany(
                "update images set sha256 = ?, descriptor = ?, note = ?, width = ?, height = ?, status = ? "
                "where id = ?",
                (
                    (sha256, descriptor, note, width, height, "corrupt" if sha256 is None else "", number)
                    for (number, sha256, note, width, height), descriptor in zip(
                        result.images, result.descriptors, strict=True
                    )
                ),
            )
            bar.update(len(result.images))
    return grey


def _chunks(table: sqlite3.Connection, length: int) -> Iterator[Chunk]:
    # A query for each chunk: a cursor that stays open while its table is written to may see rows twice or not at all.
    (count,) = table.execute("select count(*) from images").fetchone()
    for start in range(0, count, length):
        stop = min(start + length, count)
        rows = table.execute(
            "select id, container, member, offset, size from images where id >= ? and id < ? and status = ''",
            (start, stop),
        )
        yield Chunk(start, stop, rows.fetchall())


_recipe: Recipe
_reader: Reader
_canvas: Canvas
_target: int


def _start_process(recipe: Recipe) -> None:
    global _recipe, _reader, _canvas, _target
    # PyTorch, should it be imported for resizing: one picture is too small to share, and every core has its process.
    os.environ["OMP_NUM_THREADS"] = "1"
    _recipe = recipe
    _reader = Reader(recipe.containers)
    _canvas = Canvas()
    _target = os.open(recipe.target, os.O_WRONLY)


def _decode_chunk(chunk: Chunk) -> Result:
    side = _recipe.side
    squares = np.zeros((chunk.stop - chunk.start, side, side, 3), np.uint8)
    images: list[tuple[int, bytes | None, str, int, int]] = []
    thumbnails: list[np.ndarray | None] = []
    for number, container, member, offset, size in chunk.rows:
        try:
            picture = _decode_at(Place(container, member, offset, size))
        except NotAPicture as error:
            images.append((number, None, str(error), 0, 0))
            thumbnails.append(None)
            continue
        squares[number - chunk.start] = to_square(picture.rgb, side, _recipe.resize, by_torch)
        height, width = picture.rgb.shape[:2]
        thumbnails.append(near_duplicates.thumbnail(picture.rgb))
        images.append((number, pixel_sha256(picture.rgb), picture.note, width, height))
    write_at(_target, squares.reshape(-1).data, chunk.start * side * side * 3)
    grey = np.array_equal(squares[..., 0], squares[..., 1]) and np.array_equal(squares[..., 0], squares[..., 2])
    return Result(images, near_duplicates.describe(thumbnails), grey)


def _decode_at(place: Place) -> Decoded:
    pixels = _reader.pixels(place)
    return Decoded(pixels, "") if pixels is not None else decode(_reader.picture(place), _canvas)


def write_at(file: int, data: memoryview, offset: int) -> None:
    """Write all of it: the system may take less at a time."""
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
