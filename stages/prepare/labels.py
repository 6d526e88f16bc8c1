"""labels.csv: a table beside the images that says their class and, if it likes, split and group."""

import posixpath
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from stages.common import tables
from stages.common.errors import UserError, listed
from stages.common.names import normal, why_refused
from stages.prepare.reader import NotAFile, open_regular
from stages.prepare.split_names import split_named
from stages.prepare.table import insert_images

LABELS = "labels.csv"
# As many as a path has on Linux.
_MAX_CHARACTERS = 4096


def read_labels(root: Path, table: sqlite3.Connection, around: str = "") -> str:
    """Fill the table of images from labels.csv, in the folder `around` of `root`; return the layout in words.

    Paths are relative to the table. Spaces around a value are not part of it, and names are compared in Unicode's NFC.
    Images without a row stay in the table, with the status unlisted. Raises UserError that names every problem.
    """
    file = around + LABELS
    container, member = table.execute("select container, member from found where path = ?", (file,)).fetchone()
    if container:
        raise UserError(f"{root}/: {file} lies in an archive; put it directly into {root}/.")
    table.execute("create table rows (line integer, path text, label text, split text, grp text)")
    problems: list[str] = []
    try:
        descriptor, _ = open_regular(root / member)
    except NotAFile as error:
        raise UserError(f"{root}/{file}: {error}; expected a table. Remove it.") from None
    with open(descriptor, encoding="utf-8-sig", newline="") as stream:  # noqa: PTH123  # of a descriptor
        try:
            rows = tables.Rows(stream, ("path", "label"), ("split", "group"))
            columns = rows.columns
            table.executemany("insert into rows values (?, ?, ?, ?, ?)", _rows(rows, around, problems))
        except tables.TableError as error:
            raise UserError(
                f"{root}/{file}: not such a table in UTF-8: {error}. Save it as CSV, with commas, in UTF-8."
            ) from None
    table.execute("create index rows_path on rows (path)")
    for query, words in (
        ("select path, group_concat(line, ', ') from rows group by path having count(*) > 1", "is in lines"),
        (
            "select path, line from rows where path not in (select path from found) group by path",
            "no such file; line",
        ),
    ):
        problems += [f"{path}: {words} {lines}{_near(table, root, path)}" for path, lines in table.execute(query)]
    if problems:
        raise UserError(f"{root}/{file}: {len(problems)} problems:\n" + listed(problems))
    insert_images(
        table,
        "select found.path, label, split, grp, container, member, offset, size from found "
        "left join rows on rows.path = found.path where found.path != :labels",
        labels=file,
    )
    table.execute("update images set status = 'unlisted', note = 'no row in labels.csv' where label is null")
    return file + (" with its splits" if "split" in columns else "") + (" and groups" if "group" in columns else "")


def _near(table: sqlite3.Connection, root: Path, path: str) -> str:
    """The file that is probably meant by a path at which there is none: in another case, or from the project."""
    candidates = [path.removeprefix(f"{root.name}/"), path]
    query = "select path from found where path != ? and lower(path) = lower(?) limit 1"
    for candidate in candidates:
        if near := table.execute(query, (path, candidate)).fetchone():
            return f"; there is {near[0]}"
    return ""


def _rows(
    rows: tables.Rows, around: str, problems: list[str]
) -> Iterator[tuple[int, str, str, str | None, str | None]]:
    for given in rows:
        line = rows.line
        if given is None:
            problems.append(f"line {line}: expected {len(rows.columns)} fields")
            continue
        row = {name: normal(value.strip()) for name, value in given.items()}
        empty = [name for name in rows.columns if not row[name]]
        if empty:
            problems.append(f"line {line}: empty {' and '.join(empty)}")
        elif long := [name for name, value in row.items() if len(value) > _MAX_CHARACTERS]:
            problems.append(f"line {line}: {' and '.join(long)} of more than {_MAX_CHARACTERS:,} characters")
        elif not split_named(row.get("split", "train")):
            problems.append(f"line {line}: split {row['split']!r}; expected train, val or test")
        elif refused := [f"{row[name]!r}: {reason}" for name in rows.columns if (reason := why_refused(row[name]))]:
            problems.append(f"line {line}: {', '.join(refused)}")
        else:
            path = around + posixpath.normpath(row["path"].replace("\\", "/"))
            split = split_named(row["split"]) if "split" in row else None
            yield line, path, row["label"], split, row.get("group")
