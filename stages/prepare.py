"""STAGE 1: raw images → uint8 arrays, decoded, checked, de-duplicated and split. Reads data/, writes prepared/.

prepared/{train,val,test}-images.npy  uint8, N×H×W×C
prepared/{train,val,test}-labels.npy  int64, N; an index into the classes of dataset.json
prepared/dataset.json                 what the arrays are: classes, shape, normalisation, counts, digests
prepared/manifest.csv                 a row per raw image, sorted by path: path, class, split, sha256, status, group,
                                      note. The kept rows of a split stand in the order of its arrays
prepared/summary.txt                  what was found and what was left out, in words
metrics/prepare.json                  the same in figures
"""

import argparse
import csv
import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from stages import arithmetic, raw, splits
from stages.decode import Recipe, decode_all
from stages.errors import UserError, run_main
from stages.files import replacing_folder, write_json
from stages.params import PrepareParams, load
from stages.table import SPLITS, open_table

DATA = Path("data")
PREPARED = Path("prepared")
METRICS = Path("metrics/prepare.json")

# What the statuses other than kept mean, in the words of the summary.
LEFT_OUT = {
    "duplicate": "the same pixels as another image of the split",
    "leaked": "of train or val, with pixels that val or test holds too",
    "corrupt": "not whole images",
    "conflict": "the same pixels under several classes",
    "unlisted": "without a row in labels.csv",
}
_BLOCK = 1024


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.prepare",
        description="Stage 1: decode, check, de-duplicate and split data/ into prepared/.",
    ).parse_args()
    params = load(PrepareParams)
    # Resizing is PyTorch's.
    arithmetic.hold_torch()
    try:
        prepare(params)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(PREPARED)) from None


def prepare(params: PrepareParams) -> None:
    """Make PREPARED and METRICS from DATA. On failure an earlier PREPARED stays as it was."""
    with replacing_folder(PREPARED) as folder, ExitStack() as stack:
        work = folder / "work"
        work.mkdir()
        table = stack.enter_context(closing(open_table(work / "images.sqlite")))
        data = raw.scan(DATA, params.group_pattern, table, work)
        (files,) = table.execute("select count(*) from images").fetchone()
        print(
            f"prepare: {files} files in {len(data.classes)} classes ({data.layout}); {data.ignored} ignored", flush=True
        )
        squares = work / "squares"
        grey = decode_all(table, Recipe(data.containers, squares, params.image_size, params.resize))
        splits.assign(table, data.official_splits, params)
        problems = splits.problems(table, data.classes, params)
        if problems:
            raise UserError(f"{DATA}/: " + "\n".join(problems))
        info = write_arrays(table, squares, data.classes, params, 1 if grey else 3, folder)
        write_manifest(table, folder / "manifest.csv")
        write_json(folder / "dataset.json", info)
        figures = measure(table, info["counts"], data, files)
        summary = summarize(figures, info["counts"], table)
        (folder / "summary.txt").write_text(summary, encoding="utf-8")
        stack.close()
        for file in sorted(work.iterdir()):
            file.unlink()
        work.rmdir()
    write_json(METRICS, figures)
    print(summary, end="")


def write_arrays(
    table: sqlite3.Connection, squares: Path, classes: list[str], params: PrepareParams, channels: int, folder: Path
) -> dict[str, Any]:
    """Write the splits' arrays into `folder`, reading the squares once, and return the content of dataset.json.

    Mean and standard deviation are of the train split alone, per channel, on the scale 0 to 1; integer sums make them
    exact.
    """
    side = params.image_size
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
        "image_size": side,
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
                "select id - ?1, label, split from images where id >= ?1 and id < ?2 and status = 'kept' order by id",
                (start, start + length),
            ).fetchall()
            yield block, chosen


def write_manifest(table: sqlite3.Connection, path: Path) -> None:
    """Write a row per raw image; sha256 is empty where an image was not decoded, split where it is left out."""
    rows = table.execute(
        "select path, coalesce(label, ''), coalesce(split, ''), coalesce(lower(hex(sha256)), ''), status, "
        "coalesce(grp, ''), note from images order by id"
    )
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "class", "split", "sha256", "status", "group", "note"])
        writer.writerows(rows)


def measure(
    table: sqlite3.Connection, counts: dict[str, dict[str, int]], data: raw.RawData, files: int
) -> dict[str, int | float]:
    """The figures of metrics/prepare.json: what was found, and the splits with the fractions that they reached."""
    statuses = dict(table.execute("select status, count(*) from images group by 1"))
    kept = statuses["kept"]
    sizes = {split: sum(counts[split].values()) for split in SPLITS}
    return {
        "files": files,
        "ignored": data.ignored,
        **{status: statuses.get(status, 0) for status in LEFT_OUT},
        "classes": len(data.classes),
        **{f"{split}_images": size for split, size in sizes.items()},
        **{f"{split}_fraction": round(size / kept, 6) for split, size in sizes.items()},
    }


def summarize(figures: dict[str, int | float], counts: dict[str, dict[str, int]], table: sqlite3.Connection) -> str:
    """The figures in words, a line each; nothing that was left out or changed is passed over."""
    lines = [
        f"  {split:5} {figures[f'{split}_images']:7} images ({figures[f'{split}_fraction']:.1%}), "
        f"{min(counts[split].values())} or more of each class"
        for split in SPLITS
    ]
    lines += [f"  left out: {figures[status]} {words}" for status, words in LEFT_OUT.items() if figures[status]]
    if not any(figures[status] for status in LEFT_OUT):
        lines.append("  left out: none")
    notes = "select note, count(*) from images where status = 'kept' and note != '' group by 1 order by 1"
    lines += [f"  changed: {number} images, {note}" for note, number in table.execute(notes)]
    return "\n".join(lines) + "\n"


def _mean_and_std(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Per channel, of values 0 to 255 counted in `histogram` (channels×256), on the scale 0 to 1, from exact sums."""
    number = int(histogram[0].sum())
    sums = (histogram @ np.arange(256)).tolist()
    squares = (histogram @ np.arange(256) ** 2).tolist()
    mean = [total / (255 * number) for total in sums]
    variance = [(number * square - total**2) / (255 * number) ** 2 for total, square in zip(sums, squares, strict=True)]
    # A constant channel has no spread to divide by; 1/255, one grey level, keeps it finite.
    return [round(value, 8) for value in mean], [round(max(value, 1 / 255**2) ** 0.5, 8) for value in variance]


if __name__ == "__main__":
    run_main(main)
