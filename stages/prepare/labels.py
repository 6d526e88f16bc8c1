"""labels.csv: a table beside the images that says their class and, if it likes, split and group."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from stages.common import tables
from stages.common.errors import UserError, listed
from stages.common.names import why_refused
from stages.prepare.table import SPLITS, insert_images

LABELS = "labels.csv"


def read_labels(root: Path, table: sqlite3.Connection) -> str:
    """Fill the table of images from labels.csv; return the layout in words.

    Images without a row stay in the table, with the status unlisted. Raises UserError that names every problem.
    """
    (container,) = table.execute("select container from found where path = ?", (LABELS,)).fetchone()
    if container:
        raise UserError(f"{root}/: {LABELS} lies in an archive; put it directly into {root}/.")
    table.execute("create table rows (line integer, path text, label text, split text, grp text)")
    problems: list[str] = []
    with (root / LABELS).open(encoding="utf-8-sig", newline="") as stream:
        try:
            rows = tables.Rows(stream, ("path", "label"), ("split", "group"))
            columns = rows.columns
            table.executemany("insert into rows values (?, ?, ?, ?, ?)", _rows(rows, problems))
        except tables.TableError as error:
            raise UserError(f"{root}/{LABELS}: not such a table in UTF-8: {error}.") from None
    table.execute("create index rows_path on rows (path)")
    for query, words in (
        ("select path, group_concat(line, ', ') from rows group by path having count(*) > 1", "is in lines"),
        (
            "select path, line from rows where path not in (select path from found) group by path",
            "no such file; line",
        ),
    ):
        problems += [f"{path}: {words} {lines}" for path, lines in table.execute(query)]
    if problems:
        raise UserError(f"{root}/{LABELS}: {len(problems)} problems:\n" + listed(problems))
    insert_images(
        table,
        "select found.path, label, split, grp, container, member, offset, size from found "
        f"left join rows on rows.path = found.path where found.path != '{LABELS}'",
    )
    table.execute("update images set status = 'unlisted', note = 'no row in labels.csv' where label is null")
    return LABELS + (" with its splits" if "split" in columns else "") + (" and groups" if "group" in columns else "")


def _rows(rows: tables.Rows, problems: list[str]) -> Iterator[tuple[int, str, str, str | None, str | None]]:
    for row in rows:
        line = rows.line
        if row is None:
            problems.append(f"line {line}: expected {len(rows.columns)} fields")
            continue
        empty = [name for name in rows.columns if not row[name].strip()]
        if empty:
            problems.append(f"line {line}: empty {' and '.join(empty)}")
        elif row.get("split", "train") not in SPLITS:
            problems.append(f"line {line}: split {row['split']!r}; expected train, val or test")
        elif refused := [f"{row[name]!r}: {reason}" for name in rows.columns if (reason := why_refused(row[name]))]:
            problems.append(f"line {line}: {', '.join(refused)}")
        else:
            path = row["path"].removeprefix("./").replace("\\", "/")
            yield line, path, row["label"], row.get("split"), row.get("group")
