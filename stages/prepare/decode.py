"""All raw images → squares, or encoded ones, and the facts of each, on all cores; memory does not grow with their
number."""

import hashlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.common import shards
from stages.prepare import near_duplicates, spool
from stages.prepare.facts import Facts, Memory
from stages.prepare.picture import Canvas, Decoded, NotAPicture, decode, pixel_sha256, to_square
from stages.prepare.processes import images_of_a_chunk, processes_for, results
from stages.prepare.reader import Container, Place, Reader
from stages.prepare.resize import by_torch
from stages.prepare.spool import Spooled

# Of a file of squares: little beside a disk that is nearly full.
_PART_BYTES = 2**28
# Of squares of which sums are made at a time: few enough to stay in a cache.
_SUMMED_BYTES = 2**18


class Recipe(NamedTuple):
    """What a process needs to know: where the bytes are, the folder that squares go to, and how they are made. With a
    `quality` (stages.common.shards), squares are encoded and spooled, but for pictures that `memory` knows."""

    containers: list[Container]
    target: Path
    side: int
    resize: str
    quality: int | None = None
    memory: Path | None = None


class Chunk(NamedTuple):
    """The images with ids from `start` to before `stop`, in the file of squares that begins with `part`; (id, *Place)
    of those that are to be decoded."""

    start: int
    stop: int
    part: int
    rows: list[tuple[int, int, str | None, int, int]]


class Result(NamedTuple):
    """Of a chunk: (id, key of its raw bytes, whether the memory had it, its facts, where it is in the spool) of each
    picture, and (id, reason) of what is none."""

    pictures: list[tuple[int, bytes, bool, Facts, Spooled | None]]
    refused: list[tuple[int, str]]


class Decoder:
    """Reads pictures and makes squares, one after the other. Not to be shared between processes."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._reader = Reader(recipe.containers)
        self._canvas = Canvas()

    def raw(self, place: Place) -> bytes:
        """The bytes of a picture. Raises NotAPicture where they cannot be read."""
        return self._reader.picture(place)

    def decode(self, raw: bytes, place: Place) -> Decoded:
        """The picture that `raw`, the bytes at `place`, is. Its pixels are good until the next call."""
        container = self._recipe.containers[place.container]
        if container.kind == "pixels":
            return Decoded(np.frombuffer(raw, np.uint8).reshape(container.shape), "")
        return decode(raw, self._canvas)

    def square(self, picture: Decoded) -> np.ndarray:
        """The square that the model sees of it, uint8 S×S×3."""
        return to_square(picture.rgb, self._recipe.side, self._recipe.resize, by_torch)

    def key(self, raw: bytes, place: Place) -> bytes:
        """What decides a picture: its bytes, and how they are read."""
        container = self._recipe.containers[place.container]
        digest = hashlib.sha256(repr(container.shape).encode() if container.kind == "pixels" else b"")
        digest.update(raw)
        return digest.digest()


def decode_all(table: sqlite3.Connection, recipe: Recipe) -> bool:
    """Decode the images without a status; write image `id` as uint8 S×S×3 to the files in `recipe.target` that
    `squares` reads, or encode and spool it there.

    Fills in what `Facts` has, and the status `corrupt` of what is not a whole picture. Returns whether all are grey.
    """
    total, size = table.execute("select count(*), coalesce(sum(size), 0) from images where status = ''").fetchone()
    length = images_of_a_chunk(total, size)
    part = length * max(1, _PART_BYTES // (length * 3 * recipe.side**2))
    recipe.target.mkdir()
    grey = True
    updates = table.cursor()
    with tqdm(total=total, unit="image", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        chunks = _chunks(table, length, part)
        for result in results(_decode_chunk, chunks, _start_process, recipe, processes_for(size), "prepare"):
            grey &= all(facts.is_grey for _, _, _, facts, _ in result.pictures)
            _fill_in(updates, result)
            bar.update(len(result.pictures) + len(result.refused))
    return grey


def _fill_in(updates: sqlite3.Cursor, result: Result) -> None:
    updates.executemany(
        "update images set key = ?, known = ?, sha256 = ?, width = ?, height = ?, note = ?, descriptor = ?, grey = ?, "
        "sum0 = ?, sum1 = ?, sum2 = ?, square0 = ?, square1 = ?, square2 = ?, encoded = ?, process = ?, start = ? "
        "where id = ?",
        (
            (
                *(key, known, facts.sha256, facts.width, facts.height, facts.note, facts.descriptor, facts.is_grey),
                *(*facts.sums, *facts.squares, facts.size),
                *((place.process, place.start) if place else (None, None)),
                number,
            )
            for number, key, known, facts, place in result.pictures
        ),
    )
    updates.executemany(
        "update images set note = ?, width = 0, height = 0, status = 'corrupt' where id = ?",
        ((reason, number) for number, reason in result.refused),
    )


def squares(target: Path, side: int, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """What `decode_all` has written, in blocks of at most `length`: the id of the first image, and uint8 N×S×S×3. Each
    file is removed once it has been read."""
    size = side * side * 3
    for file in sorted(target.iterdir()):
        first = int(file.name)
        with file.open("rb") as stream:
            while data := stream.read(length * size):
                yield first, np.frombuffer(data, np.uint8).reshape(-1, side, side, 3)
                first += len(data) // size
        file.unlink()


def _chunks(table: sqlite3.Connection, length: int, part: int) -> Iterator[Chunk]:
    # A query for each chunk: a cursor that stays open while its table is written to may see rows twice or not at all.
    (count,) = table.execute("select count(*) from images").fetchone()
    for start in range(0, count, length):
        stop = min(start + length, count)
        rows = table.execute(
            "select id, container, member, offset, size from images where id >= ? and id < ? and status = ''",
            (start, stop),
        )
        yield Chunk(start, stop, start - start % part, rows.fetchall())


_recipe: Recipe
_decoder: Decoder
_memory: Memory | None


def _start_process(recipe: Recipe) -> None:
    global _recipe, _decoder, _memory
    # PyTorch, should it be imported for resizing: one picture is too small to share, and every core has its process.
    os.environ["OMP_NUM_THREADS"] = "1"
    _recipe = recipe
    _decoder = Decoder(recipe)
    _memory = Memory(recipe.memory) if recipe.memory else None


class _Seen(NamedTuple):
    """Of a picture that has been decoded: its id, key, pixels' SHA-256, note, width and height, and thumbnail."""

    number: int
    key: bytes
    sha256: bytes
    note: str
    width: int
    height: int
    thumbnail: np.ndarray | None


def _decode_chunk(chunk: Chunk) -> Result:
    side = _recipe.side
    images = np.zeros((chunk.stop - chunk.start, side, side, 3), np.uint8)
    pictures: list[tuple[int, bytes, bool, Facts, Spooled | None]] = []
    refused: list[tuple[int, str]] = []
    seen: list[_Seen] = []
    for number, container, member, offset, size in chunk.rows:
        place = Place(container, member, offset, size)
        try:
            raw = _decoder.raw(place)
            key = _decoder.key(raw, place) if _memory else b""
            if _memory and (facts := _memory.facts(key)):
                pictures.append((number, key, True, facts, None))
                continue
            picture = _decoder.decode(raw, place)
        except NotAPicture as error:
            refused.append((number, str(error)))
            continue
        images[number - chunk.start] = _decoder.square(picture)
        height, width = picture.rgb.shape[:2]
        thumbnail = near_duplicates.thumbnail(picture.rgb)
        seen.append(_Seen(number, key, pixel_sha256(picture.rgb), picture.note, width, height, thumbnail))
    encoded: list[bytes] = []
    places: list[Spooled] | list[None] = [None] * len(seen)
    if _recipe.quality is None:
        file = os.open(_recipe.target / f"{chunk.part:012}", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            write_at(file, images.reshape(-1).data, (chunk.start - chunk.part) * side * side * 3)
        finally:
            os.close(file)
    else:
        encoded = [shards.encode(images[one.number - chunk.start], _recipe.quality) for one in seen]
        places = spool.append(_recipe.target, [(one.sha256, data) for one, data in zip(seen, encoded, strict=True)])
    sizes = [len(data) for data in encoded] or [0] * len(seen)
    decoded = images[[one.number - chunk.start for one in seen]] if len(seen) < len(images) else images
    descriptors = near_duplicates.describe([one.thumbnail for one in seen])
    for one, descriptor, of_square, length, where in zip(seen, descriptors, _sums(decoded), sizes, places, strict=True):
        facts = Facts(one.sha256, one.width, one.height, one.note, descriptor, *of_square, length)
        pictures.append((one.number, one.key, False, facts, where))
    return Result(pictures, refused)


def _sums(images: np.ndarray) -> list[tuple[bool, tuple[int, int, int], tuple[int, int, int]]]:
    """Of squares, uint8 N×S×S×3, each: whether it is grey, the sums of its values, and of their squares."""
    number, side = images.shape[:2]
    sums, squared = np.empty((2, number, 3), np.int64)
    grey = np.zeros(number, bool)
    length = max(1, _SUMMED_BYTES // (side * side * 3))
    for start in range(0, number, length):
        part = slice(start, start + length)
        # Along memory first, a row of pixels at a time: of at most 1,024 rows, all fit into 32 bits.
        rows = images[part].reshape(-1, side, side * 3)
        for values, into in ((rows, sums), (np.square(rows, dtype=np.uint16), squared)):
            columns = np.add.reduce(values, axis=1, dtype=np.uint32)
            into[part] = columns.reshape(-1, side, 3).sum(1, dtype=np.int64)
        # Most pictures in colour have other sums in each channel.
        alike = (sums[part] == sums[part, :1]).all(1) & (squared[part] == squared[part, :1]).all(1)
        if alike.any():
            maybe = images[part][alike]
            grey[part][alike] = (maybe[..., 1:] == maybe[..., :1]).all((1, 2, 3))
    return [
        (is_grey, (r, g, b), (rr, gg, bb))
        for is_grey, (r, g, b), (rr, gg, bb) in zip(grey.tolist(), sums.tolist(), squared.tolist(), strict=True)
    ]


def write_at(file: int, data: memoryview, offset: int) -> None:
    """Write all of it: the system may take less at a time."""
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
