"""All raw images → one file of squares and a hash of each, on all cores; memory does not grow with their number."""

import multiprocessing
import os
import signal
import sqlite3
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.common.errors import UserError
from stages.prepare import near_duplicates
from stages.prepare.picture import Canvas, Decoded, NotAPicture, decode, pixel_sha256, to_square
from stages.prepare.reader import DAMAGED, Container, NotAFile, Place, Reader, TooLarge
from stages.prepare.resize import by_torch

# Enough work that passing it to another process costs little beside it; little enough that all processes have some.
_CHUNK_IMAGES = 256
_CHUNK_BYTES = 4 * 2**20
# Below this, starting processes takes longer than the work.
_ALONE_BELOW_BYTES = 8 * 2**20


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
    processes = 1 if size < _ALONE_BELOW_BYTES else _cores()
    mean = max(1, size // max(1, total))
    chunks = _chunks(table, max(8, min(_CHUNK_IMAGES, _CHUNK_BYTES // mean)))
    recipe.target.touch()
    grey = True
    updates = table.cursor()
    with tqdm(total=total, unit="image", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        for result in _results(chunks, recipe, processes):
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


def _cores() -> int:
    """Cores that this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _results(chunks: Iterator[Chunk], recipe: Recipe, processes: int) -> Iterator[Result]:
    """The results in the order of the chunks; at most a few chunks are under way."""
    if processes == 1:
        _start_process(recipe)
        yield from map(_decode_chunk, chunks)
        return
    # Forked processes have all modules imported already. macOS does not bear a fork after its libraries have started.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(processes, context, _start_process, (recipe,)) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for chunk in chunks:
                under_way.append(pool.submit(_decode_chunk, chunk))
                if len(under_way) > 4 * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "prepare: a process that decodes images was killed, as the system does when memory runs out. "
                "Free memory and run again."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_recipe: Recipe
_reader: Reader
_canvas: Canvas
_target: int


def _start_process(recipe: Recipe) -> None:
    global _recipe, _reader, _canvas, _target
    if multiprocessing.parent_process() is not None:
        # Ctrl-C reaches the whole group; the first process ends the others, without a traceback from each.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    _write(squares.reshape(-1).data, chunk.start * side * side * 3)
    grey = np.array_equal(squares[..., 0], squares[..., 1]) and np.array_equal(squares[..., 0], squares[..., 2])
    return Result(images, near_duplicates.describe(thumbnails), grey)


def _decode_at(place: Place) -> Decoded:
    pixels = _reader.pixels(place)
    if pixels is not None:
        return Decoded(pixels, "")
    try:
        data = _reader.read(place)
    except (NotAFile, TooLarge) as error:
        raise NotAPicture(str(error)) from None
    except DAMAGED as error:
        raise NotAPicture(f"damaged in its archive: {error}") from None
    return decode(data, _canvas)


def _write(data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(_target, data, offset)
        data, offset = data[written:], offset + written
