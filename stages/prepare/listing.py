"""All files under a folder, those in archives too, as rows of the table `found`. Clutter is counted, not listed."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from stages.common.errors import UserError, listed
from stages.common.names import why_refused
from stages.prepare import archives, published
from stages.prepare.reader import Container
from stages.prepare.table import SPLITS

# Files and folders that operating systems leave; so is all whose name begins with a dot.
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}
_SIZE_OF_EVERY = 16


def walk(root: Path, refused: list[str]) -> Iterator[tuple[str, list[str], list[str], int]]:
    """Each folder under `root`, links followed: its path relative to `root` with a slash at the end, its folders and
    files without clutter, and the number of files that are clutter.

    What has a name that none may have is left out and added to `refused`, for `require_names` in the end. Raises
    OSError for a folder that cannot be read, and UserError for a link that goes round.
    """

    def refuse(error: OSError) -> None:
        raise error

    visited = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            raise UserError(f"{folder}: a link to a folder that is there already. Remove the link.")
        visited.add(real)
        inside = Path(folder).relative_to(root).as_posix().removeprefix(".")
        hidden = [name for name in folders if is_clutter(name)]
        folders[:] = [name for name in folders if name not in hidden]
        kept = [name for name in names if not is_clutter(name)]
        clutter = len(names) - len(kept)
        prefix = f"{inside}/" if inside else ""
        refused += [f"{prefix + name!r}: {reason}" for name in folders + kept if (reason := why_refused(name))]
        kept = [] if why_refused(inside) else [name for name in kept if not why_refused(name)]
        clutter += sum(len(files) for name in hidden for _, _, files in os.walk(f"{folder}/{name}"))
        yield prefix, folders, kept, clutter


def require_names(root: Path, refused: list[str]) -> None:
    """Raise UserError where `walk` or an archive had names that none may have."""
    if refused:
        raise UserError(
            f"{root}/: {len(refused)} names hold what no name of a file, a folder or a class may hold. Rename:\n"
            + listed(sorted(refused))
        )


def find(root: Path, table: sqlite3.Connection, containers: list[Container], work: Path) -> int:
    """Fill the table `found` with all files, those in archives too; return the number of ignored ones."""
    ignored = 0
    refused: list[str] = []
    for prefix, folders, names, clutter in walk(root, refused):
        ignored += clutter
        rows: list[tuple[str, int, str | None, int, int]] = []
        size = 0
        for name in names:
            path = prefix + name
            if published.UNPACKED_TO.get(name) in folders:
                ignored += 1
            elif name == "gzip.zip" and any(other.startswith("emnist-") for other in names):
                ignored += 1  # EMNIST's, which torchvision has unpacked beside it
            elif archives.suffix(name):
                ignored += _find_in_archive(root, path, table, containers, work, refused)
            else:
                # Asking for every file's size would take as long as all the rest.
                if len(rows) % _SIZE_OF_EVERY == 0:
                    size = _size(f"{root}/{path}")
                rows.append((path, 0, path, -1, size))
        table.executemany("insert into found values (?, ?, ?, ?, ?)", rows)
    require_names(root, refused)
    return ignored


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a Path for each of many files takes as long as the rest
    except FileNotFoundError:
        return 0  # a link that leads nowhere; reading it will say so


def _find_in_archive(
    root: Path, path: str, table: sqlite3.Connection, containers: list[Container], work: Path, refused: list[str]
) -> int:
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
            elif reason := why_refused(member.name):
                refused.append(f"{member.name!r} in {path}: {reason}")
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


def refuse_twice(root: Path, table: sqlite3.Connection) -> None:
    """Raise UserError where one path exists twice, such as in an archive and beside it."""
    twice = [
        path for (path,) in table.execute("select path from found group by path having count(*) > 1 order by path")
    ]
    if twice:
        raise UserError(
            f"{root}/: {len(twice)} files are there twice, in an archive and beside it or in another. Keep one:\n"
            + listed(twice)
        )
