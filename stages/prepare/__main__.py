"""STAGE 1: raw images → uint8 arrays, decoded, corrected, checked, de-duplicated and split.

Reads data/, and corrections.csv, what people have decided about single images; writes prepared/.

prepared/{train,val,test}-images.npy  uint8, N×H×W×C
prepared/{train,val,test}-labels.npy  int64, N; an index into the classes of dataset.json
prepared/dataset.json                 what the arrays are: classes, shape, normalisation, counts, digests
prepared/manifest.csv                 a row per raw image, sorted by path: path, class, split, sha256, status, group,
                                      note. The kept rows of a split are in the order of its arrays
prepared/summary.txt                  what was found and what was left out, in words, with warnings
metrics/prepare.json                  the same in figures
"""

import argparse
import errno
import os
import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from stages.common import arithmetic, tables
from stages.common.dependencies import require_modules_listed
from stages.common.errors import UserError, run_main
from stages.common.files import replacing_folder, write_json
from stages.common.params import load
from stages.prepare import corrections, layouts, near_duplicates, splits
from stages.prepare.arrays import write_arrays
from stages.prepare.decode import Recipe, decode_all
from stages.prepare.description import describe
from stages.prepare.params import PrepareParams
from stages.prepare.summary import summarize
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
    """Make PREPARED and METRICS from DATA and corrections.csv. On failure an earlier PREPARED stays as it was."""
    decided = corrections.read()
    with replacing_folder(PREPARED, FILES) as folder, ExitStack() as stack:
        work = folder / "work"
        work.mkdir()
        table = stack.enter_context(closing(open_table(work / "images.sqlite")))
        data = layouts.scan(DATA, params.group_pattern, table, work)
        (files,) = table.execute("select count(*) from images").fetchone()
        print(f"prepare: {files} files in {len(data.classes)} classes ({data.layout}); {data.ignored}", flush=True)
        squares = work / "squares"
        grey = decode_all(table, Recipe(data.containers, squares, params.side, params.resize))
        corrections.apply(table, decided, data.classes)
        splits.assign(table, data.official_splits, params)
        near_duplicates.find(table, params.on_near_duplicate)
        problems = splits.problems(table, data.classes, data.official_splits, params)
        if problems:
            raise UserError(f"{DATA}/: " + "\n".join(problems))
        counts, channels = splits.count(table, data.classes), 1 if grey else 3
        digests = write_arrays(table, squares, counts, params.side, channels, folder)
        write_manifest(table, folder / "manifest.csv")
        write_json(folder / "dataset.json", describe(table, counts, params, channels, digests))
        figures, summary = summarize(table, data, counts, params)
        (folder / "summary.txt").write_text(summary, encoding="utf-8")
        require_modules_listed()
        stack.close()
        shutil.rmtree(work)
    write_json(METRICS, figures)
    print(summary, end="")


def write_manifest(table: sqlite3.Connection, path: Path) -> None:
    """Write a row per raw image; sha256 is empty where an image was not decoded, split where it is left out. The class
    is the one that the image counts for."""
    rows = table.execute(
        "select images.path, coalesce(images.label, ''), coalesce(images.split, ''), "
        "coalesce(lower(hex(images.sha256)), ''), images.status, coalesce(images.grp, ''), "
        "substr(coalesce('; ' || nullif(images.correction, ''), '') || "
        "coalesce('; ' || nullif(images.note, ''), '') || coalesce('; nearly the same as ' || other.path, ''), 3) "
        "from images left join images other on other.id = images.near order by images.id"
    )
    tables.write(path, ["path", "class", "split", "sha256", "status", "group", "note"], rows)


if __name__ == "__main__":
    run_main(main)
