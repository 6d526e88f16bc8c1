"""Pictures that are nearly the same and lie in different splits: saved again, resized, brightened, cropped, mirrored.

A descriptor of 63 bytes stands for a picture: the lowest frequencies of its discrete cosine transform, as in pHash
(Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), but kept as numbers, not as signs.
Each is weighted by its frequency, so that what counts is the gradient: pictures with the same horizon are not alike
yet. Two are nearly the same where the cosine of the angle between their descriptors is at least ALIKE.

Every picture of a split is compared with every one of the splits that take precedence, by products of matrices. That
misses no pair, but takes four times as long for twice as many pictures: docs/own-data.md has the seconds. All sums are
of integers small enough to be exact, so that every machine finds the same pairs, by however many processes.
"""

import functools
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from stages.common.errors import listed
from stages.prepare.processes import cores, results

# Measured on photographs and on CIFAR-10: docs/own-data.md. Unrelated photographs reach about 0.8.
ALIKE = 0.92
# Of the grey thumbnail that is transformed; a smaller picture has no details to compare.
_CELLS = 16
# Rows of pixels that are looked at for each row of its cells.
_ROWS_EACH = 8
# Of a picture twice as wide and beyond, every second column etc. is looked at.
_COLUMNS_MOST = 2048
# A picture is plain if more than half of its cells differ by so few grey levels. Of those, such as digits and drawings
# on an empty ground, different ones are as alike as copies.
_PLAIN = 8
_FREQUENCIES = 8
# Length of a descriptor before rounding; no number in it exceeds that of 8 bits.
_LENGTH = 127
# Of descriptors that are multiplied at once: few enough for the products to stay in a cache.
_ROWS, _COLUMNS = 256, 1024
# Of those that a process is given at a time: enough for a quarter of a second.
_MOST_ROWS, _MOST_COLUMNS = 1 << 12, 1 << 15
# Below this, starting processes takes longer than the work.
_ALONE_BELOW_PAIRS = 50_000_000
_LEAST = ALIKE * (0.95 * _LENGTH) ** 2
_SHOWN = 10
# Of a descriptor, the frequencies from left to right that are even: their cosines are symmetric.
_EVEN = np.tile(np.arange(_FREQUENCIES) % 2 == 0, _FREQUENCIES)[1:]


def thumbnail(rgb: np.ndarray) -> np.ndarray | None:
    """The means of 16×16 parts of a picture, uint8 H×W×3, in grey; None where it is smaller."""
    height, width = rgb.shape[:2]
    if min(height, width) < _CELLS:
        return None
    rgb = rgb[:, :: max(1, width // _COLUMNS_MOST)]
    width = rgb.shape[1]
    rows = rgb[(2 * np.arange(_ROWS_EACH * _CELLS) + 1) * height // (2 * _ROWS_EACH * _CELLS)]
    sums = rows.reshape(_CELLS, _ROWS_EACH, width * 3).sum(1, dtype=np.uint16)
    # Up to each edge between parts, which may lie within a pixel, in sixteenths of its value.
    grey = sums.reshape(_CELLS, width, 3).sum(2, dtype=np.int64)
    before = np.cumsum(grey, axis=1) - grey
    pixel, part = np.divmod(np.arange(_CELLS) * width, _CELLS)
    edges = _CELLS * before[:, pixel] + part * grey[:, pixel]
    parts = np.diff(edges, axis=1, append=_CELLS * grey.sum(1, keepdims=True))
    cells: np.ndarray = (parts // (_ROWS_EACH * width * 3)).astype(np.uint8)
    return cells


def describe(thumbnails: list[np.ndarray | None]) -> list[bytes | None]:
    """The descriptor of each thumbnail; None without one, and for a plain picture."""
    cells = np.array([np.zeros((_CELLS, _CELLS), np.uint8) if cells is None else cells for cells in thumbnails])
    if not len(cells):
        return []
    levels = np.sort(cells.reshape(len(cells), -1).astype(np.int16), axis=1)
    half = levels.shape[1] // 2
    is_plain = (levels[:, half:] - levels[:, :-half]).min(1) <= _PLAIN
    cosines, weights = _transform()
    # Of integers: NumPy multiplies them without threads, of which each process would start as many as there are cores.
    values = ((cosines @ cells @ cosines.T >> 20) * weights).reshape(len(cells), -1)[:, 1:]
    lengths = np.maximum(np.sqrt((values**2).sum(1, keepdims=True)), 1)
    rounded = np.rint(values * _LENGTH / lengths).astype(np.int8)
    return [None if plain else row.tobytes() for plain, row in zip(is_plain, rounded, strict=True)]


@functools.cache
def _transform() -> tuple[np.ndarray, np.ndarray]:
    """The cosines of each frequency (type II of the transform) times 2^10, and the weights times 2^4; integers."""
    places = np.pi * (2 * np.arange(_CELLS) + 1) / (2 * _CELLS)
    cosines = np.cos(np.arange(_FREQUENCIES)[:, None] * places)
    cosines[0] = 0.5**0.5
    frequencies = np.arange(_FREQUENCIES)
    weights = np.hypot(frequencies[:, None], frequencies)
    return np.rint(cosines * 2**10).astype(np.int64), np.rint(weights * 2**4).astype(np.int64)


def find(table: sqlite3.Connection, on_near_duplicate: str) -> None:
    """Fill in `near` of the kept images of train and val: the id of the image most alike in test, or else in val.

    By `quarantine`, they get the status near-duplicate.
    """
    _fill_near(table, ("train", "val"), "test")
    _fill_near(table, ("train",), "val")
    if on_near_duplicate == "quarantine":
        table.execute("update images set status = 'near-duplicate' where near is not null")


def _fill_near(table: sqlite3.Connection, splits: tuple[str, ...], precedent: str) -> None:
    best: dict[int, tuple[float, int]] = {}
    sizes = [_count(table, some) for some in (splits, (precedent,))]
    processes = 1 if sizes[0] * sizes[1] < _ALONE_BELOW_PAIRS else cores()
    blocks = (
        Block(*some, *partners)
        for partners in _descriptors(table, (precedent,), _MOST_COLUMNS)
        for some in _descriptors(table, splits, _MOST_ROWS)
    )
    for found in results(_nearest, blocks, _start_process, processes, processes, "prepare"):
        for number, near in found.items():
            best[number] = max(best.get(number, near), near)
    table.executemany(
        "update images set near = ? where id = ?", ((-partner, number) for number, (_, partner) in best.items())
    )


class Block(NamedTuple):
    """Ids and descriptors, int8 N×63, of images, and of those that they are compared with."""

    numbers: np.ndarray
    rows: np.ndarray
    partners: np.ndarray
    wanted: np.ndarray


def _start_process(processes: int) -> None:
    # With several, they are as many as there are cores, and NumPy's threads would be as many in each.
    if processes > 1:
        threadpool_limits(1)


def _nearest(block: Block) -> dict[int, tuple[float, int]]:
    """Of the images that are nearly the same as some: the largest cosine, and the first of those partners, negated."""
    best: dict[int, tuple[float, int]] = {}
    columns = [(some, *_halves(vectors)) for some, vectors in _parts(block.partners, block.wanted, _COLUMNS)]
    for numbers, rows in _parts(block.numbers, block.rows, _ROWS):
        row_even, row_odd, row_squares = _halves(rows)
        for some, even, odd, squares in columns:
            # A mirror negates what is odd from left to right: of both pictures, the one that is more alike.
            products = row_even @ even.T
            mirrored = row_odd @ odd.T
            products += np.abs(mirrored, out=mirrored)
            # First what may be alike, as rounding changes lengths by less than 5 %; mostly there is nothing.
            if products.max() < _LEAST:
                continue
            row, column = np.nonzero(products >= _LEAST)
            cosines = products[row, column] / np.sqrt((row_squares[row] * squares[column]).astype(np.float64))
            for number, partner, cosine in zip(
                numbers[row].tolist(), some[column].tolist(), cosines.tolist(), strict=True
            ):
                if cosine >= ALIKE:
                    best[number] = max(best.get(number, (0.0, 0)), (cosine, -partner))
    return best


def _parts(numbers: np.ndarray, vectors: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(numbers), length):
        yield numbers[start : start + length], vectors[start : start + length].astype(np.float32)


def _halves(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of descriptors is even and odd from left to right, and the squares of their lengths."""
    even, odd = (np.ascontiguousarray(vectors[:, part]) for part in (_EVEN, ~_EVEN))
    return even, odd, (vectors**2).sum(1)


_COMPARED = "from images where status = 'kept' and near is null and descriptor is not null and split in"


def _count(table: sqlite3.Connection, splits: tuple[str, ...]) -> int:
    (count,) = table.execute(f"select count(*) {_COMPARED} ({', '.join('?' * len(splits))})", splits).fetchone()
    return int(count)


def _descriptors(
    table: sqlite3.Connection, splits: tuple[str, ...], length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids and descriptors, int8 N×63, of splits' kept images that are near none yet, in blocks."""
    marks = ", ".join("?" * len(splits))
    rows = table.execute(f"select id, descriptor {_COMPARED} ({marks}) order by id", splits)
    while block := rows.fetchmany(length):
        vectors = np.frombuffer(b"".join(descriptor for _, descriptor in block), np.int8)
        yield np.array([number for number, _ in block]), vectors.reshape(len(block), -1)


def problem(table: sqlite3.Connection) -> list[str]:
    """All pairs, as one text of what would make results wrong; none if there are none."""
    pairs = [_shown(*pair) for pair in _pairs(table)]
    if not pairs:
        return []
    return [
        f"{len(pairs)} images of train or val are nearly the same as one of val or test. Keep one of each pair, put "
        "both into one split (as with `group_pattern`), or set `on_near_duplicate: quarantine`, which leaves out the "
        "first, or `report` in params.yaml:\n" + listed(pairs)
    ]


def summarize(table: sqlite3.Connection) -> tuple[int, list[str]]:
    """How many images have a near copy in a split that takes precedence, and what to say of them and of those that were
    not compared."""
    (number, left_out) = table.execute("select count(near), total(status = 'near-duplicate') from images").fetchone()
    lines = []
    if number:
        what = "left out" if left_out else "near copies"
        lines.append(
            f"{what}: {number} of train or val, nearly the same as one of val or test (column note of manifest.csv)"
        )
        pairs = table.execute(f"{_PAIRS} limit {_SHOWN}").fetchall()
        lines += [f"  {_shown(*pair)}" for pair in pairs]
        if number > len(pairs):
            lines.append(f"  … and {number - len(pairs)} more")
    (skipped,) = table.execute("select count(*) from images where status = 'kept' and descriptor is null").fetchone()
    if skipped:
        lines.append(
            f"not compared, for near copies: {skipped} images below {_CELLS} pixels, or of which over half is plain"
        )
    return number, lines


_PAIRS = (
    "select images.path, images.split, other.path, other.split from images join images other on other.id = images.near "
    "order by images.id"
)


def _pairs(table: sqlite3.Connection) -> Iterator[tuple[str, str, str, str]]:
    yield from table.execute(_PAIRS)


def _shown(path: str, split: str, other: str, other_split: str) -> str:
    return f"{path} ({split}) ~ {other} ({other_split})"
