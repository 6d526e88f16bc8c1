"""STAGE 1: raw images → uint8 arrays, or shards, decoded, corrected, checked, de-duplicated and split.

Reads data/, and corrections.csv, what people have decided about single images; writes prepared/.

prepared/{train,val,test}-images.npy  uint8, N×H×W×C
prepared/{train,val,test}-labels.npy  int64, N; an index into the classes of dataset.json
prepared/dataset.json                 what the arrays are: classes, shape, normalisation, counts, digests
prepared/manifest.csv                 a row per raw image, sorted by path: path, class, split, sha256, status, group,
                                      note. The kept rows of a split are in the order of its arrays
prepared/summary.txt                  what was found and what was left out, in words, with warnings
metrics/prepare.json                  the same in figures

Above `shards_above` (params.yaml), what the arrays would hold is in shards of encoded pictures:

prepared/{train,val,test}-images.npy  where each picture lies (stages.common.shards); in the order of the SHA-256
prepared/shards/                      the pictures
"""

import argparse
import errno
import os
import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from stages.common import arithmetic, shards, tables
from stages.common.dependencies import require_modules_listed
from stages.common.errors import UserError, run_main
from stages.common.files import replacing_folder, write_json
from stages.common.params import load
from stages.prepare import corrections, earlier, facts, layouts, loose, near_duplicates, splits
from stages.prepare.arrays import write_arrays
from stages.prepare.decode import Recipe, decode_all
from stages.prepare.description import describe
from stages.prepare.params import PrepareParams
from stages.prepare.sharded import write_shards
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
    with replacing_folder(PREPARED, FILES, {shards.FOLDER: shards.NAME}) as folder, ExitStack() as stack:
        work = folder / "work"
        work.mkdir()
        table = stack.enter_context(closing(open_table(work / "images.sqlite")))
        data = layouts.scan(DATA, params.group_pattern, table, work)
        (files,) = table.execute("select count(*) from images").fetchone()
        print(f"prepare: {files} files in {len(data.classes)} classes ({data.layout}); {data.ignored}", flush=True)
        if many := loose.hint(DATA, table):
            print(many, flush=True)
        recipe = Recipe(data.containers, work / "squares", params.side, params.resize)
        memory = _memory_if_sharded(table, params)
        if memory:
            recipe = recipe._replace(quality=params.shard_quality, memory=memory)
        grey = decode_all(table, recipe)
        if memory:
            facts.remember_decoded(memory, table)
        corrections.apply(table, decided, data.classes)
        splits.assign(table, data.official_splits, params)
        near_duplicates.find(table, params.on_near_duplicate)
        problems = splits.problems(table, data.classes, data.official_splits, params)
        if problems:
            raise UserError(f"{DATA}/: " + "\n".join(problems))
        counts, channels = splits.count(table, data.classes), 1 if grey else 3
        if memory:
            digests = write_shards(table, recipe, counts, earlier.find(table, PREPARED, facts.Memory(memory)), folder)
        else:
            digests = write_arrays(table, recipe.target, counts, params.side, channels, folder)
        write_manifest(table, folder / "manifest.csv")
        write_json(folder / "dataset.json", describe(table, counts, params, channels, digests))
        figures, summary = summarize(table, data, counts, params)
        (folder / "summary.txt").write_text(summary, encoding="utf-8")
        require_modules_listed()
        if memory:
            facts.remember_made(memory, folder)
        stack.close()
        shutil.rmtree(work)
    write_json(METRICS, figures)
    print(summary, end="")


def _memory_if_sharded(table: sqlite3.Connection, params: PrepareParams) -> Path | None:
    """Where to write shards, the file of the memory for them; else None."""
    (images,) = table.execute("select count(*) from images where status = ''").fetchone()
    if not params.is_sharded(images):
        return None
    form = f"JPEG of quality {params.shard_quality}" if params.shard_quality else "PNG"
    print(f"prepare: as shards of {form}, for more than {params.shards_above} MiB of pixels", flush=True)
    return facts.file_of(facts.recipe_of(side=params.side, resize=params.resize, shard_quality=params.shard_quality))


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
