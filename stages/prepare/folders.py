"""Class folders, with or without split folders above them: what is evident is read, what may be either is refused."""

import sqlite3
from pathlib import Path

from stages.common.errors import UserError, listed
from stages.prepare.labels import LABELS
from stages.prepare.split_names import split_named, splits_within
from stages.prepare.table import SPLITS, insert_images


def around(table: sqlite3.Connection) -> str:
    """The folders that hold all there is, each in the other, with a slash at the end; empty where there is none. One
    that holds an image itself is a class, and one that is named as a split is a split."""
    outer = ""
    while True:
        tops = _tops(table, outer)
        (top,) = tops if len(tops) == 1 else ("",)
        if not top or split_named(top):
            return outer
        inside = f"{outer}{top}/"
        if table.execute("select 1 from found where path = ?", (inside + LABELS,)).fetchone():
            return inside
        directly = "select 1 from found where instr(substr(path, ?), '/') = 0 limit 1"
        if table.execute(directly, (len(inside) + 1,)).fetchone():
            return outer
        outer = inside


def _tops(table: sqlite3.Connection, around: str) -> set[str]:
    """The folders directly in `around`; '' among them where there are files."""
    # SQLite counts from 1.
    query = "select distinct top(substr(path, ?)) from found"
    return {top for (top,) in table.execute(query, (len(around) + 1,))}


def read_folders(root: Path, table: sqlite3.Connection, around: str) -> str:
    """Class folders, with or without split folders above them."""
    if elsewhere := table.execute(f"select path from found where path like '%/{LABELS}'").fetchone():
        raise UserError(
            f"{root}/{elsewhere[0]}: such a table is read directly in {root}/, or in the one folder that holds all. "
            f"Make one {root}/{LABELS}, with paths from there, or remove this one, if the folders are the classes."
        )
    tops = _tops(table, around)
    splits = _split_folders(root, table, around, tops - {""})
    table.create_function("split_of", 1, splits.get, deterministic=True)
    at = len(around) + 1
    depth = 2 if splits else 1
    stray = [
        path
        for (path,) in table.execute(
            "select path from found where slashes(substr(path, :at)) < :depth order by path", {"at": at, "depth": depth}
        )
    ]
    if stray:
        expected = "/".join([str(root), *(["<split>"] if splits else []), "<class>", "<image>"])
        raise UserError(
            f"{root}/: {len(stray)} files outside a class folder; expected {expected}. Move each image into a folder "
            f"that is named as its class, or say the classes in {root}/{LABELS} (columns path,label); remove what is "
            f"no image.{_explain_tables(stray)} The files:\n" + listed(stray)
        )
    split, rest = ("split_of(top(substr(path, :at)))", "below(substr(path, :at))")
    if not splits:
        split, rest = "null", "substr(path, :at)"
    insert_images(table, f"select path, top({rest}), {split}, null, container, member, offset, size from found", at=at)
    layout = "class folders"
    if splits:
        names = sorted(splits, key=lambda name: SPLITS.index(splits[name]))
        layout += " under " + ", ".join(name if name == splits[name] else f"{name} ({splits[name]})" for name in names)
    return layout + (f" in {around}" if around else "")


def _split_folders(root: Path, table: sqlite3.Connection, around: str, tops: set[str]) -> dict[str, str]:
    """The split that each folder in `around` is; empty where they are classes. UserError where either may be meant."""
    named = {top: split for top in sorted(tops) if (split := split_named(top))}
    # Without train, valid may be a class, beside invalid; a folder that is named exactly so never was one.
    if "train" in named.values() or set(named) & set(SPLITS):
        if others := sorted(tops - set(named)):
            raise UserError(
                f"{root}/: both split folders ({', '.join(named)}) and other folders ({', '.join(others)}). Expected "
                f"either classes or train, val, test directly under {root}/, not a mixture. A class of such a name is "
                f"possible in {root}/{LABELS} (columns path,label)."
            )
        if len(set(named.values())) < len(named):
            raise UserError(
                f"{root}/: several folders of one split: "
                + ", ".join(f"{top} ({split})" for top, split in named.items())
                + ". Keep one of each."
            )
        return named
    shared = _shared_folders(table, around, tops)
    if not shared:
        return {}
    if splits := splits_within(tops):
        return splits
    names = ", ".join(shared[:5]) + (", …" if shared[5:] else "")
    raise UserError(
        f"{root}/: {', '.join(sorted(tops))} all have the folders {names}, so they look like splits or sources of the "
        "same classes, not like classes. Rename splits to train, val and test, and merge sources. If they are the "
        f"classes, put their images directly into them, or say so in {root}/{LABELS} (columns path,label)."
    )


def _shared_folders(table: sqlite3.Connection, around: str, tops: set[str]) -> list[str]:
    """The folders that are in all of several `tops`, if they are two or more and at least half of all there are."""
    if len(tops) < 2:
        return []
    folders: dict[str, set[str]] = {}
    query = "select distinct top(substr(path, :at)), top(below(substr(path, :at))) from found"
    for top, folder in table.execute(query, {"at": len(around) + 1}):
        folders.setdefault(top, set()).add(folder)
    shared = set.intersection(*folders.values()) - {""}
    return sorted(shared) if len(shared) >= 2 and 2 * len(shared) >= len(set.union(*folders.values()) - {""}) else []


def _explain_tables(stray: list[str]) -> str:
    """What a table among the stray files, such as Kaggle's train.csv or Roboflow's _classes.csv, would have to be."""
    tables = [path for path in stray if path.lower().endswith((".csv", ".tsv", ".json", ".txt", ".xlsx", ".parquet"))]
    if not tables:
        return ""
    images = [path for path in stray if path not in tables]
    example = f", such as {images[0]},<class>" if images else ""
    return (
        f" If {tables[0]} says the classes, write them into {LABELS}, a row for each image with its path from there"
        f"{example}: no extension may be missing, and a class is one name, not a column for each."
    )
