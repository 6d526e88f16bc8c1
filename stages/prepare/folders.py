"""Class folders, with or without split folders above them: what is evident is read, what may be either is refused."""

import sqlite3
from pathlib import Path

from stages.common.errors import UserError, listed
from stages.prepare.labels import LABELS
from stages.prepare.split_names import split_named, splits_within
from stages.prepare.table import SPLITS, insert_images

# Archives that are not read, and those in archives.
_ARCHIVES = (".rar", ".7z", ".zst", ".lz4", ".lzma", ".cab", ".iso", ".gz", ".bz2", ".xz", ".zip", ".tar", ".tgz")


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
    """Class folders, with split folders above or directly in them, or without; the layout in words."""
    if elsewhere := table.execute(f"select path from found where path like '%/{LABELS}'").fetchone():
        raise UserError(
            f"{root}/{elsewhere[0]}: such a table is read directly in {root}/, or in the one folder that holds all. "
            f"Make one {root}/{LABELS}, with paths from there, or remove this one, if the folders are the classes."
        )
    tops = _tops(table, around) - {""}
    at = len(around) + 1
    above, inside = _split_folders(root, table, around, tops)
    splits = above | inside
    _refuse_stray(root, table, at, bool(splits))
    table.create_function("split_of", 1, splits.get, deterministic=True)
    first, second = "top(substr(path, :at))", "top(below(substr(path, :at)))"
    label, split = (second, first) if above else (first, second)
    insert_images(
        table,
        f"select path, {label}, {f'split_of({split})' if splits else 'null'}, null, container, member, offset, size "
        "from found",
        at=at,
    )
    names = sorted(splits, key=lambda name: SPLITS.index(splits[name]))
    words = ", ".join(name if name == splits[name] else f"{name} ({splits[name]})" for name in names)
    layout = "class folders" + (f" {'under' if above else 'with'} {words}" if splits else "")
    return layout + (f" in {around}" if around else "")


def _refuse_stray(root: Path, table: sqlite3.Connection, at: int, has_splits: bool) -> None:
    query = "select path from found where slashes(substr(path, :at)) < :depth order by path"
    stray = [path for (path,) in table.execute(query, {"at": at, "depth": 2 if has_splits else 1})]
    if not stray:
        return
    expected = "/".join([str(root), *(["<split>"] if has_splits else []), "<class>", "<image>"])
    raise UserError(
        f"{root}/: {len(stray)} files outside a class folder; expected {expected}. Move each image into a folder "
        f"that is named as its class, or say the classes in {root}/{LABELS} (columns path,label); remove what is no "
        f"image.{_explain(stray)} The files:\n" + listed(stray)
    )


def _split_folders(
    root: Path, table: sqlite3.Connection, around: str, tops: set[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The split that each folder is, of those in `around`, or of those directly in each of these; both are empty where
    there are classes alone. UserError where either may be meant."""
    named = {top: split for top in sorted(tops) if (split := split_named(top))}
    # Without train, valid may be a class, beside invalid; a folder that is named exactly so never was one.
    if "train" in named.values() or set(named) & set(SPLITS):
        if others := sorted(tops - set(named)):
            raise UserError(
                f"{root}/: both split folders ({', '.join(named)}) and other folders ({', '.join(others)}). Expected "
                f"either classes or train, val, test directly under {root}/, not a mixture. A class of such a name is "
                f"possible in {root}/{LABELS} (columns path,label)."
            )
        return _one_of_each(root, named), {}
    below = _folders_in_each(table, around)
    shared = set.intersection(*below.values()) if len(below) > 1 else set()
    everything = set.union(*below.values())
    named = {name: split for name in sorted(everything) if (split := split_named(name))}
    if "train" in named.values() and set(named) == everything and not _is_deeper(table, around):
        return {}, _one_of_each(root, named)
    if len(shared) < 2 or 2 * len(shared) < len(everything):
        return {}, {}
    if splits := splits_within(tops):
        return splits, {}
    shown = ", ".join(sorted(shared)[:5]) + (", …" if len(shared) > 5 else "")
    raise UserError(
        f"{root}/: {', '.join(sorted(tops))} all have the folders {shown}, so they look like splits or sources of the "
        "same classes, not like classes. Rename splits to train, val and test, and merge sources. If they are the "
        f"classes, put their images directly into them, or say so in {root}/{LABELS} (columns path,label)."
    )


def _one_of_each(root: Path, splits: dict[str, str]) -> dict[str, str]:
    if len(set(splits.values())) < len(splits):
        shown = ", ".join(f"{name} ({split})" for name, split in splits.items())
        raise UserError(f"{root}/: several folders of one split: {shown}. Keep one of each.")
    return splits


def _folders_in_each(table: sqlite3.Connection, around: str) -> dict[str, set[str]]:
    """The folders directly in each folder of `around`."""
    below: dict[str, set[str]] = {"": set()}
    query = "select distinct top(substr(path, :at)), top(below(substr(path, :at))) from found"
    for top, folder in table.execute(query, {"at": len(around) + 1}):
        below.setdefault(top, set()).update({folder} - {""})
    return {top: folders for top, folders in below.items() if top} or below


def _is_deeper(table: sqlite3.Connection, around: str) -> bool:
    """Whether there are folders three levels below `around`."""
    query = "select 1 from found where slashes(substr(path, ?)) > 2 limit 1"
    return table.execute(query, (len(around) + 1,)).fetchone() is not None


def _explain(stray: list[str]) -> str:
    """What to do with another kind of archive, or a table, such as Kaggle's train.csv or Roboflow's _classes.csv."""
    if packed := [path for path in stray if path.lower().endswith(_ARCHIVES)]:
        return f" {packed[0]} is an archive that is not read: unpack it, or pack it again as zip or tar."
    tables = [path for path in stray if path.lower().endswith((".csv", ".tsv", ".json", ".xlsx", ".parquet"))]
    if not tables:
        return ""
    images = [path for path in stray if path not in tables]
    example = f", such as {images[0]},<class>" if images else ""
    return (
        f" If {tables[0]} says the classes, write them into {LABELS}, a row for each image with its path from there"
        f"{example}: no extension may be missing, and a class is one name, not a column for each."
    )
