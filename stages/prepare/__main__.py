"""STAGE 1: raw images → uint8 arrays, decoded, checked, de-duplicated and split. Reads data/, writes prepared/.

prepared/{train,val,test}-images.npy  uint8, N×H×W×C
prepared/{train,val,test}-labels.npy  int64, N; an index into the classes of dataset.json
prepared/dataset.json                 what the arrays are: classes, shape, normalisation, counts, digests
prepared/manifest.csv                 a row per raw image, sorted by path: path, class, split, sha256, status, group,
                                      note. The kept rows of a split are in the order of its arrays
prepared/summary.txt                  what was found and what was left out, in words
metrics/prepare.json                  the same in figures
"""

import argparse
import errno
import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from stages.common import arithmetic, tables
from stages.common.dependencies import require_modules_listed
from stages.common.errors import UserError, run_main
from stages.common.files import replacing_folder, write_json
from stages.common.params import load
from stages.prepare import layouts, splits
from stages.prepare.arrays import write_arrays
from stages.prepare.decode import Recipe, decode_all
from stages.prepare.params import PrepareParams
from stages.prepare.table import SPLITS, open_table

DATA = Path("data")
PREPARED = Path("prepared")
METRICS = Path("metrics/prepare.json")
# All that PREPARED holds.
FILES = (
    *(f"{split}-{kind}.npy" for split in SPLITS for kind in ("images", "labels")),
    "dataset.json",
    "manifest.csv",
    "summary.txt",
)

# What the statuses other than kept mean, in the words of the summary.
LEFT_OUT = {
    "duplicate": "the same pixels as another image of the split",
    "leaked": "of train or val, with pixels that val or test holds too",
    "corrupt": "not whole images",
    "conflict": "the same pixels under several classes",
    "unlisted": "without a row in labels.csv",
}


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.prepare",
        description="Stage 1: decode, check, de-duplicate and split data/ into prepared/.",
    ).parse_args()
    params = load(PrepareParams)
    # Resizing is PyTorch's.
    arithmetic.use_portable_torch()
    try:
        prepare(params)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(PREPARED)) from None


def prepare(params: PrepareParams) -> None:
    """Make PREPARED and METRICS from DATA. On failure an earlier PREPARED stays as it was."""
    with replacing_folder(PREPARED, FILES) as folder, ExitStack() as stack:
        work = folder / "work"
        work.mkdir()
        table = stack.enter_context(closing(open_table(work / "images.sqlite")))
        data = layouts.scan(DATA, params.group_pattern, table, work)
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
        require_modules_listed()
        stack.close()
        for file in sorted(work.iterdir()):
            file.unlink()
        work.rmdir()
    write_json(METRICS, figures)
    print(summary, end="")


def write_manifest(table: sqlite3.Connection, path: Path) -> None:
    """Write a row per raw image; sha256 is empty where an image was not decoded, split where it is left out."""
    rows = table.execute(
        "select path, coalesce(label, ''), coalesce(split, ''), coalesce(lower(hex(sha256)), ''), status, "
        "coalesce(grp, ''), note from images order by id"
    )
    tables.write(path, ["path", "class", "split", "sha256", "status", "group", "note"], rows)


def measure(
    table: sqlite3.Connection, counts: dict[str, dict[str, int]], data: layouts.RawData, files: int
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


if __name__ == "__main__":
    run_main(main)
