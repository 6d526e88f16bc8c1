"""Raw layouts: what lies under data/, as images with their class and, where the layout says it, split and group.

The layout is found by looking:
- class folders: data/<class>/**/<image>
- split folders above them: data/train/<class>/**, optionally data/val/<class>/** and data/test/<class>/**
- data/labels.csv: columns path, label and optionally split and group
- a published data set: the files of CIFAR-10 or -100, or of MNIST's family (stages/published.py)
A zip or tar archive counts as the folder in which it lies: its members stand beside the files there. One named train,
val or test counts as a folder of that name.

The images are rows of a table on disk, so memory does not grow with their number.
"""

import csv
import math
import os
import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages import archives, published
from stages.containers import Container, Place, Reader
from stages.errors import UserError

SPLITS = ("train", "val", "test")
LABELS = "labels.csv"
# Files and folders that operating systems leave. They are counted, not read; so is all whose name begins with a dot.
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}

_SIZE_OF_EVERY = 16

_SCHEMA = """
create table found (path text not null, container integer not null, member text, offset integer, size integer);
create table images (
    id integer primary key,     -- from 0, in the order of paths
    path text not null,         -- relative to data/, with forward slashes
    label text,
    split text,                 -- the official one, where the layout has it; later the one assigned
    grp text,                   -- what must not be divided between splits
    container integer not null, member text, offset integer,
    size integer,               -- in bytes; of files in folders, about
    sha256 blob,                -- of the pixels, once decoded
    status text not null default '',
    note text not null default ''
);
"""


@dataclass(frozen=True)
class RawData:
    """The class names, sorted; the layout in words; the splits that it has; the number of files ignored."""

    classes: list[str]
    layout: str
    official_splits: tuple[str, ...]
    containers: list[Container]
    ignored: int


def open_table(path: Path) -> sqlite3.Connection:
    """An empty database for this run alone, in one transaction: nothing in it has to survive a crash."""
    table = sqlite3.connect(path, isolation_level=None)
    folder = str(path.parent).replace("'", "''")
    table.executescript(
        "pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -16384; "
        f"pragma temp_store_directory = '{folder}';" + _SCHEMA
    )
    table.execute("begin")
    return table


def scan(root: Path, group_pattern: str, table: sqlite3.Connection, work: Path) -> RawData:
    """Fill the tables of `open_table` with what lies under `root`.

    Archives and published data sets that cannot be read at random are unpacked into the folder `work`. Raises UserError
    for a layout that is not one of those above, naming every file that does not fit.
    """
    if not root.is_dir():
        raise UserError(f"{root}/: no such folder. `make data` gets the version that {root}.dvc names.")
    table.create_function("top", 1, lambda path: path.partition("/")[0] if "/" in path else "", deterministic=True)
    table.create_function("slashes", 1, lambda path: path.count("/"), deterministic=True)
    table.create_function("below", 1, lambda path: path.partition("/")[2], deterministic=True)
    containers = [Container("folder", str(root))]
    ignored = _find(root, table, containers, work)
    if not table.execute("select 1 from found limit 1").fetchone():
        raise UserError(
            f"{root}/: no images. Expected {root}/<class>/<image>, or {root}/train/<class>/<image> and so on."
        )
    _refuse_twice(root, table)
    layout = _published(root, table, containers, work)
    if layout is None:
        has_labels = table.execute("select 1 from found where path = ?", (LABELS,)).fetchone()
        layout = _labelled(root, table) if has_labels else _folders(root, table)
    table.execute("drop table found")
    _group(root, group_pattern, table)
    classes, official = _check(root, layout, table)
    return RawData(classes, layout, official, containers, ignored)


def _find(root: Path, table: sqlite3.Connection, containers: list[Container], work: Path) -> int:
    """Fill the table `found` with all files, those in archives too; return the number of ignored ones."""
    ignored = 0
    not_utf8 = []

    def refuse(error: OSError) -> None:
        raise error

    visited = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            raise UserError(f"{folder}: a link to a folder that stands there already. Remove the link.")
        visited.add(real)
        inside = Path(folder).relative_to(root).as_posix().removeprefix(".")
        prefix = f"{inside}/" if inside else ""
        hidden = [name for name in folders if is_clutter(name)]
        ignored += sum(len(files) for name in hidden for _, _, files in os.walk(f"{folder}/{name}"))
        folders[:] = [name for name in folders if name not in hidden]
        rows: list[tuple[str, int, str | None, int, int]] = []
        size = 0
        for name in names:
            path = prefix + name
            if is_clutter(name) or published.UNPACKED_TO.get(name) in folders:
                ignored += 1
            elif not _is_utf8(name):
                not_utf8.append(repr(os.fsencode(path)))
            elif name == "gzip.zip" and any(other.startswith("emnist-") for other in names):
                ignored += 1  # EMNIST's, which torchvision has unpacked beside it
            elif archives.suffix(name):
                ignored += _find_in_archive(root, path, table, containers, work)
            else:
                # Asking for every file's size would take as long as all the rest.
                if len(rows) % _SIZE_OF_EVERY == 0:
                    size = _size(f"{folder}/{name}")
                rows.append((path, 0, path, -1, size))
        table.executemany("insert into found values (?, ?, ?, ?, ?)", rows)
    if not_utf8:
        raise UserError(f"{root}/: {len(not_utf8)} names are not UTF-8. Rename:\n" + listed(not_utf8))
    return ignored


def _is_utf8(name: str) -> bool:
    """False for a name whose bytes are not UTF-8, which Python keeps as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a Path for each of many files takes as long as the rest
    except FileNotFoundError:
        return 0  # a link that leads nowhere; reading it will say so


def _find_in_archive(root: Path, path: str, table: sqlite3.Connection, containers: list[Container], work: Path) -> int:
    archive = archives.make_readable(root / path, work)
    folder, _, name = path.rpartition("/")
    stem = name[: -len(archives.suffix(name))]
    number = len(containers)
    containers.append(Container(archive.kind, str(archive.file)))
    ignored = 0

    def rows() -> Iterator[tuple[str, int, str, int, int]]:
        nonlocal ignored
        for member in archives.members(archive, root / path):
            if any(is_clutter(part) for part in member.name.split("/")):
                ignored += 1
            else:
                inside = "/".join(filter(None, (folder, member.name)))
                yield inside, number, member.name, member.offset, member.size

    table.executemany("insert into found values (?, ?, ?, ?, ?)", rows())
    tops = {top for (top,) in table.execute("select distinct top(path) from found where container = ?", (number,))}
    if not folder and stem in SPLITS and not tops & set(SPLITS):
        table.execute("update found set path = ? || path where container = ?", (f"{stem}/", number))
    return ignored


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is one that an operating system leaves."""
    return name.startswith(".") or name.lower() in _CLUTTER


def _refuse_twice(root: Path, table: sqlite3.Connection) -> None:
    twice = [
        path for (path,) in table.execute("select path from found group by path having count(*) > 1 order by path")
    ]
    if twice:
        raise UserError(
            f"{root}/: {len(twice)} files stand there twice, in an archive and beside it or in another. Keep one:\n"
            + listed(twice)
        )


# --- the layouts -----------------------------------------------------------------------------------------------------


def _folders(root: Path, table: sqlite3.Connection) -> str:
    """Class folders, with or without split folders above them, with or without one folder around all."""
    around = ""
    while True:
        length = len(around) + 1  # SQLite counts from 1
        tops = {top for (top,) in table.execute("select distinct top(substr(path, ?)) from found", (length,))}
        (top,) = tops if len(tops) == 1 else ("",)
        directly = "select 1 from found where instr(substr(path, ?), '/') = 0 limit 1"
        if not top or top in SPLITS or table.execute(directly, (length + len(top) + 1,)).fetchone():
            break
        around += f"{top}/"
    official = tuple(split for split in SPLITS if split in tops)
    if official:
        _check_split_folders(root, tops - {""}, official)
    depth = 2 if official else 1
    stray = [
        path
        for (path,) in table.execute(
            "select path from found where slashes(substr(path, :at)) < :depth order by path",
            {"at": length, "depth": depth},
        )
    ]
    if stray:
        expected = "/".join([str(root), *(["<split>"] if official else []), "<class>", "<image>"])
        raise UserError(
            f"{root}/: {len(stray)} files outside a class folder; expected {expected}. Move or remove:\n"
            + listed(stray)
        )
    split, rest = ("top(substr(path, :at))", "below(substr(path, :at))") if official else ("null", "substr(path, :at)")
    _insert(table, f"select path, top({rest}), {split}, null, container, member, offset, size from found", at=length)
    layout = f"class folders under {', '.join(official)}" if official else "class folders"
    return layout + (f" in {around}" if around else "")


def _check_split_folders(root: Path, folders: set[str], official: tuple[str, ...]) -> None:
    others = sorted(folders - set(SPLITS))
    if others:
        raise UserError(
            f"{root}/: both split folders ({', '.join(official)}) and other folders ({', '.join(others)}). "
            f"Expected either classes or train, val, test directly under {root}/, not a mixture."
        )


def _labelled(root: Path, table: sqlite3.Connection) -> str:
    """labels.csv: a row per image. Images without a row stay in the table, with the status unlisted."""
    (container,) = table.execute("select container from found where path = ?", (LABELS,)).fetchone()
    if container:
        raise UserError(f"{root}/: {LABELS} lies in an archive; put it directly into {root}/.")
    table.execute("create table rows (line integer, path text, label text, split text, grp text)")
    problems: list[str] = []
    with (root / LABELS).open(encoding="utf-8-sig", newline="") as stream:
        try:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or [])
            unknown = [name for name in columns if name not in ("path", "label", "split", "group")]
            if unknown or not {"path", "label"} <= set(columns) or len(set(columns)) < len(columns):
                raise UserError(
                    f"{root}/{LABELS}: expected the columns path, label and optionally split and group; got "
                    f"{', '.join(columns) or 'none'}."
                )
            table.executemany("insert into rows values (?, ?, ?, ?, ?)", _label_rows(reader, columns, problems))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{root}/{LABELS}: not a CSV file in UTF-8: {error}.") from None
    table.execute("create index rows_path on rows (path)")
    for query, words in (
        ("select path, group_concat(line, ', ') from rows group by path having count(*) > 1", "stands in lines"),
        (
            "select path, line from rows where path not in (select path from found) group by path",
            "no such file; line",
        ),
    ):
        problems += [f"{path}: {words} {lines}" for path, lines in table.execute(query)]
    if problems:
        raise UserError(f"{root}/{LABELS}: {len(problems)} problems:\n" + listed(problems))
    _insert(
        table,
        "select found.path, label, split, grp, container, member, offset, size from found "
        f"left join rows on rows.path = found.path where found.path != '{LABELS}'",
    )
    table.execute("update images set status = 'unlisted', note = 'no row in labels.csv' where label is null")
    return LABELS + (" with its splits" if "split" in columns else "") + (" and groups" if "group" in columns else "")


def _label_rows(
    reader: "csv.DictReader[str]", columns: list[str], problems: list[str]
) -> Iterator[tuple[int, str, str, str | None, str | None]]:
    for row in reader:
        line = reader.line_num
        if None in row or None in row.values():
            problems.append(f"line {line}: expected {len(columns)} fields")
            continue
        empty = [name for name in columns if not row[name].strip()]
        if empty:
            problems.append(f"line {line}: empty {' and '.join(empty)}")
        elif row.get("split", "train") not in SPLITS:
            problems.append(f"line {line}: split {row['split']!r}; expected train, val or test")
        else:
            path = row["path"].removeprefix("./").replace("\\", "/")
            yield line, path, row["label"], row.get("split"), row.get("group")


def _published(root: Path, table: sqlite3.Connection, containers: list[Container], work: Path) -> str | None:
    """The files of a published data set, unpacked to bare pixels; None where there is none."""
    candidates = "path glob '*-idx[123]-*' or path glob '*cifar-10-batches-py/*' or path glob '*cifar-100-python/*'"
    places = {
        path: Place(*place)
        for path, *place in table.execute(f"select path, container, member, offset, size from found where {candidates}")
    }
    reader = Reader(containers)
    parts = published.parts(set(places), lambda path: reader.open(places[path]))
    if not parts:
        return None
    folders = {part.path.rpartition("/")[0] for part in parts}
    others = [
        path
        for (path,) in table.execute("select path from found order by path")
        if path.rpartition("/")[0] not in folders
    ]
    if others:
        raise UserError(
            f"{root}/: both a published data set ({parts[0].path}, …) and {len(others)} other files. Keep either:\n"
            + listed(others)
        )
    table.execute(
        "create table bare (path text, label text, split text, container integer, offset integer, size integer)"
    )
    for part in parts:
        file = work / f"{len(containers)}.pixels"
        size = math.prod(part.shape)
        with file.open("wb") as stream:
            for pixels, labels in part.images:
                first = stream.tell() // size
                stream.write(pixels.tobytes())
                table.executemany(
                    "insert into bare values (?, ?, ?, ?, ?, ?)",
                    (
                        (f"{part.path}/{number:06}", label, part.split, len(containers), number * size, size)
                        for number, label in enumerate(labels, first)
                    ),
                )
        containers.append(Container("pixels", str(file), part.shape))
    _insert(table, "select path, label, split, null, container, null, offset, size from bare")
    return "published files " + ", ".join(part.path for part in parts)


def _insert(table: sqlite3.Connection, query: str, **values: object) -> None:
    """Fill the table `images` from a query of its columns path to size, in the order of paths."""
    table.execute(
        "insert into images (id, path, label, split, grp, container, member, offset, size) "
        f"select row_number() over (order by path) - 1, * from ({query})",
        values,
    )


# --- what holds for every layout -------------------------------------------------------------------------------------


def _group(root: Path, pattern: str, table: sqlite3.Connection) -> None:
    """Fill in the groups that `group_pattern` finds in the paths."""
    if not pattern:
        return
    if table.execute("select 1 from images where grp is not null limit 1").fetchone():
        raise UserError(
            f"group_pattern: {LABELS} has groups of its own. "
            "Set `group_pattern: ''` in params.yaml, or remove the column."
        )
    expression = re.compile(pattern)

    def group(path: str) -> str | None:
        match = expression.search(path)
        return match and match[1 if expression.groups else 0]

    table.create_function("path_group", 1, group, deterministic=True)
    table.execute("update images set grp = path_group(path)")
    without = [path for (path,) in table.execute("select path from images where grp is null order by id")]
    if without:
        raise UserError(
            f"group_pattern: {pattern!r} in params.yaml finds no group in {len(without)} paths under {root}/:\n"
            + listed(without)
        )


def _check(root: Path, layout: str, table: sqlite3.Connection) -> tuple[list[str], tuple[str, ...]]:
    """The classes and the official splits. UserError where they cannot be learned from."""
    classes = sorted(label for (label,) in table.execute("select distinct label from images where label is not null"))
    if len(classes) < 2:
        raise UserError(
            f"{root}/: one class only ({', '.join(classes)}); a classifier needs images of at least two, "
            "each in its own folder."
        )
    alike: dict[str, list[str]] = {}
    for label in classes:
        alike.setdefault(unicodedata.normalize("NFC", label).casefold(), []).append(label)
    confusable = [names for names in alike.values() if len(names) > 1]
    # EMNIST's letters are classes of both cases on purpose.
    if confusable and not layout.startswith("published"):
        raise UserError(
            f"{root}/: classes that differ only in case or in the form of an accent; give each class one name:\n"
            + "\n".join("  " + ", ".join(map(repr, names)) for names in confusable)
        )
    splits = {split for (split,) in table.execute("select distinct split from images where split is not null")}
    if splits and "train" not in splits:
        raise UserError(
            f"{root}/: splits {', '.join(sorted(splits))} without train; images to learn from go into train."
        )
    return classes, tuple(split for split in SPLITS if split in splits)


def listed(lines: list[str]) -> str:
    """All the lines, indented: a person who has to mend files needs every one."""
    return "\n".join(f"  {line}" for line in lines)
