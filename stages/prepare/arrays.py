"""The arrays of prepared/, one file for images and one for labels of each split, and what they are."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from stages.prepare import splits
from stages.prepare.params import PrepareParams
from stages.prepare.table import SPLITS

_BLOCK = 1024


def write_arrays(
    table: sqlite3.Connection, squares: Path, classes: list[str], params: PrepareParams, channels: int, folder: Path
) -> dict[str, Any]:
    """Write the splits' arrays into `folder`, reading the squares once, and return the content of dataset.json.

    Mean and standard deviation are of the train split alone, per channel, on the scale 0 to 1; integer sums make them
    exact.
    """
    side = params.side
    counts = splits.count(table, classes)
    label_index = {label: index for index, label in enumerate(classes)}
    histogram = np.zeros((channels, 256), np.int64)
    digests = {}
    with ExitStack() as stack:
        arrays = {}
        for split in SPLITS:
            length = sum(counts[split].values())
            for part, dtype, shape in (
                ("images", np.dtype(np.uint8), (length, side, side, channels)),
                ("labels", np.dtype(np.int64), (length,)),
            ):
                path = folder / f"{split}-{part}.npy"
                arrays[split, part] = stack.enter_context(closing(_ArrayFile(path, dtype, shape)))
        for block, chosen in _blocks(table, squares, side):
            for split in SPLITS:
                rows = [(index, label) for index, label, row_split in chosen if row_split == split]
                images = np.ascontiguousarray(block[[index for index, _ in rows]][..., :channels])
                arrays[split, "images"].append(images)
                arrays[split, "labels"].append(np.array([label_index[label] for _, label in rows], np.int64))
                if split == "train":
                    for channel in range(channels):
                        histogram[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
        for (split, part), array in arrays.items():
            digests[f"{split}-{part}.npy"] = array.sha256.hexdigest()
    mean, std = _mean_and_std(histogram)
    return {
        "classes": classes,
        "channels": channels,
        "image_size": params.image_size,
        "stored_size": side,
        "resize": params.resize,
        "mean": mean,
        "std": std,
        "counts": counts,
        "sha256": digests,
    }


class _ArrayFile:
    """A .npy file that grows block by block, and the SHA-256 of what was written."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._stream = path.open("w+b")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._stream.seek(0)
        self.sha256 = hashlib.sha256(self._stream.read())

    def append(self, block: np.ndarray) -> None:
        data = block.tobytes()
        self._stream.write(data)
        self.sha256.update(data)

    def close(self) -> None:
        self._stream.close()


def _blocks(
    table: sqlite3.Connection, squares: Path, side: int
) -> Iterator[tuple[np.ndarray, list[tuple[int, str, str]]]]:
    """Blocks of squares, uint8 N×S×S×3, and of each block the images to keep: (index in it, label, split)."""
    size = side * side * 3
    (total,) = table.execute("select count(*) from images").fetchone()
    length = max(1, min(_BLOCK, 2**24 // size))
    with squares.open("rb") as stream:
        for start in range(0, total, length):
            block = np.frombuffer(stream.read(length * size), np.uint8).reshape(-1, side, side, 3)
            chosen = table.execute(
                "select id - ?, label, split from images where id >= ? and id < ? and status = 'kept' order by id",
                (start, start, start + length),
            ).fetchall()
            yield block, chosen


def _mean_and_std(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Per channel, of values 0 to 255 counted in `histogram` (channels×256), on the scale 0 to 1, from exact sums."""
    number = int(histogram[0].sum())
    sums = (histogram @ np.arange(256)).tolist()
    squares = (histogram @ np.arange(256) ** 2).tolist()
    mean = [total / (255 * number) for total in sums]
    variance = [(number * square - total**2) / (255 * number) ** 2 for total, square in zip(sums, squares, strict=True)]
    # A constant channel has no spread to divide by; 1/255, one grey level, keeps it finite.
    return [round(value, 8) for value in mean], [round(max(value, 1 / 255**2) ** 0.5, 8) for value in variance]
