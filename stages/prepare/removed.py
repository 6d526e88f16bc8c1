"""removed.csv, beside shards: which files in them count as gone.

A shard is a tar file of many images, named by its hash (scripts/pack.py). Taking one image out would change all of its
bytes, which `dvc push` would send again; so the image is listed here, and nobody reads it any more.
"""

import re
from collections.abc import Collection
from pathlib import Path

from stages.common import tables
from stages.common.errors import UserError, listed
from stages.prepare.reader import NotAFile, open_regular

REMOVED = "removed.csv"
COLUMNS = ("shard", "path")
SHARD = re.compile(r"shard-[0-9a-f]{16}\.tar")
_REMEDY = "It belongs to the shards beside it: get both again (`dvc checkout`), or pack the images again."


def read(file: Path) -> dict[str, set[str]]:
    """The names of the files that are gone, as their shard has them, by its name. UserError for another table."""
    gone: dict[str, set[str]] = {}
    try:
        descriptor, _ = open_regular(file)
    except NotAFile as error:
        raise UserError(f"{file}: {error}; expected a table. {_REMEDY}") from None
    with open(descriptor, encoding="utf-8", newline="") as stream:  # noqa: PTH123  # of a descriptor
        try:
            rows = tables.Rows(stream, COLUMNS, ())
            for row in rows:
                if row is None or row["path"] in gone.setdefault(row["shard"], set()):
                    what = f"other than {len(COLUMNS)} values" if row is None else "what another line has"
                    raise tables.TableError(f"line {rows.line} has {what}")
                gone[row["shard"]].add(row["path"])
        except tables.TableError as error:
            raise UserError(f"{file}: not such a table in UTF-8: {error}. {_REMEDY}") from None
    return gone


def beside(folder: Path, names: Collection[str]) -> dict[str, set[str]] | None:
    """What counts as gone in a folder that holds files of these names; None where there is no such table, or no shard,
    so that a table of this name is anything. UserError where the table names a shard that is not there."""
    shards = set(filter(SHARD.fullmatch, names)) if REMOVED in names else set()
    if not shards:
        return None
    gone = read(folder / REMOVED)
    if absent := sorted(gone.keys() - shards):
        raise UserError(
            f"{folder / REMOVED}: {len(absent)} shards that it names are not there. {_REMEDY}\n" + listed(absent)
        )
    return gone


def refuse_unknown(file: Path, shard: str, names: Collection[str]) -> None:
    """UserError where the table names files that the shard does not hold."""
    if names:
        raise UserError(
            f"{file}: {len(names)} files that it names are not in {shard}. {_REMEDY}\n" + listed(sorted(names))
        )
