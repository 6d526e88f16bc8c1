"""The arrays of prepared/, one file for images and one for labels of each split."""

import hashlib
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from stages.prepare.decode import squares
from stages.prepare.table import SPLITS

_BLOCK = 1024
_BLOCK_BYTES = 2**24


def write_arrays(
    table: sqlite3.Connection,
    source: Path,
    counts: dict[str, dict[str, int]],
    side: int,
    channels: int,
    folder: Path,
) -> dict[str, str]:
    """Write the splits' arrays into `folder`, in the order of paths, and return the SHA-256 of each file.

    Squares are read from the folder `source` once, and removed there as they are read, so that they do not take twice
    the space. `counts`: kept images per split and class.
    """
    label_index = {label: index for index, label in enumerate(counts["train"])}
    length = max(1, min(_BLOCK, _BLOCK_BYTES // (side * side * 3)))
    with ExitStack() as stack:
        arrays = {}
        for split in SPLITS:
            number = sum(counts[split].values())
            for part, dtype, shape in (
                ("images", np.dtype(np.uint8), (number, side, side, channels)),
                ("labels", np.dtype(np.int64), (number,)),
            ):
                path = folder / f"{split}-{part}.npy"
                arrays[split, part] = stack.enter_context(closing(ArrayFile(path, dtype, shape)))
        for start, block in squares(source, side, length):
            chosen = table.execute(
                "select id - ?, label, split from images where id >= ? and id < ? and status = 'kept' order by id",
                (start, start, start + len(block)),
            ).fetchall()
            for split in SPLITS:
                rows = [(index, label) for index, label, row_split in chosen if row_split == split]
                arrays[split, "images"].append(block[[index for index, _ in rows]][..., :channels])
                arrays[split, "labels"].append(np.array([label_index[label] for _, label in rows], np.int64))
        return {f"{split}-{part}.npy": array.sha256.hexdigest() for (split, part), array in arrays.items()}


class ArrayFile:
    """A .npy file that grows block by block, and the SHA-256 of what was written."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._stream = path.open("w+b")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._stream.seek(0)
        self.sha256 = hashlib.sha256(self._stream.read())

    def append(self, block: np.ndarray) -> None:
        """Write the next rows."""
        data = block.tobytes()
        self._stream.write(data)
        self.sha256.update(data)

    def close(self) -> None:
        """Write what the stream holds yet."""
        self._stream.close()
