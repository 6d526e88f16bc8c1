"""All files under a folder, those in archives too, as rows of the table `found`, by names in one form.

What is clutter, and what .dvcignore hides, is counted, not listed.
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stages.common.errors import UserError, listed
from stages.common.names import normal, why_refused
from stages.prepare import archives, published, removed
from stages.prepare.reader import Container
from stages.prepare.removed import REMOVED
from stages.prepare.split_names import split_named
from stages.prepare.tracked import hidden_from_dvc

# Files and folders that Windows, macOS, file managers and network storage (Synology, QNAP) leave beside pictures, in
# lower case; so is all whose name begins with a dot. .dvcignore has the same.
CLUTTER = frozenset(
    "thumbs.db|ehthumbs.db|ehthumbs_vista.db|thumbs.db:encryptable|desktop.ini|folder.htt|picasa.ini|zbthumbnail.info|"
    "$recycle.bin|recycler|system volume information|lost+found|found.000|"
    "__macosx|icon\r|network trash folder|temporary items|"
    "@eadir|@tmp|@recycle|@recently-snapshot|#recycle|#snapshot".split("|")
)
_SIZE_OF_EVERY = 16


class Ignored(NamedTuple):
    """What counts for nothing: the numbers of files that are clutter and that .dvcignore hides, empty folders, and the
    number of files that removed.csv takes out of shards.

    Other machines may have more or less of it, so it stands in no result."""

    clutter: int
    hidden: int
    empty: list[str]
    removed: int

    def __str__(self) -> str:
        hidden = f", {self.hidden} hidden by .dvcignore" if self.hidden else ""
        empty = f"; nothing in {', '.join(self.empty)}" if self.empty else ""
        removed = f", {self.removed} in shards left out by {REMOVED}" if self.removed else ""
        return f"{self.clutter} ignored{hidden}{removed}{empty}"


def walk(root: Path, refused: list[str]) -> Iterator[tuple[str, list[str], list[str], int]]:
    """Each folder under `root`, links followed: its path relative to `root` with a slash at the end, its folders and
    files without clutter, and the number of files that are clutter. Of the folders, those that the caller takes out of
    the list are passed over.

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
        refused += [f"{prefix + name!r}: {reason}" for name in folders + kept if (reason := _why_not(name))]
        kept = [] if _why_not(inside) else [name for name in kept if not _why_not(name)]
        clutter += sum(len(files) for name in hidden for _, _, files in os.walk(f"{folder}/{name}"))
        yield prefix, folders, kept, clutter


def _why_not(name: str) -> str:
    # Of Windows' archives, a program that takes no backslash for a slash makes files of such names.
    return "a backslash, which some systems take for a slash" if "\\" in name else why_refused(name)


def require_names(root: Path, refused: list[str]) -> None:
    """Raise UserError where `walk` or an archive had names that none may have."""
    if refused:
        raise UserError(
            f"{root}/: {len(refused)} names hold what no name of a file, a folder or a class may hold. Rename:\n"
            + listed(sorted(refused))
        )


def find(root: Path, table: sqlite3.Connection, containers: list[Container], work: Path) -> Ignored:
    """Fill the table `found` with all files that DVC tracks, those in archives too; how many count for nothing.

    UserError that names every linked folder: DVC tracks none of what is behind it.
    """
    ignored = hidden = gone = 0
    refused: list[str] = []
    linked: list[str] = []
    empty: list[str] = []
    is_hidden = hidden_from_dvc(root)
    for prefix, folders, all_names, clutter in walk(root, refused):
        ignored += clutter
        for name in [name for name in folders if is_hidden(f"{prefix}{name}/")]:
            folders.remove(name)
            hidden += sum(len(files) for _, _, files in os.walk(root / prefix / name))
        linked += [prefix + name for name in folders if os.path.islink(f"{root}/{prefix}{name}")]  # noqa: PTH114  # quicker
        folders[:] = [name for name in folders if prefix + name not in linked]
        names = [name for name in all_names if not is_hidden(prefix + name)]
        hidden += len(all_names) - len(names)
        removed_from = removed.beside(root / prefix, all_names)
        if removed_from is not None:
            _refuse_hidden(root, prefix, names)
            names.remove(REMOVED)
            gone += sum(map(len, removed_from.values()))
        if prefix and not (names or folders):
            empty.append(prefix)
        rows: list[tuple[str, int, str | None, int, int]] = []
        size = 0
        for name in names:
            path = prefix + name
            if published.UNPACKED_TO.get(name) in folders:
                ignored += 1
            elif name == "gzip.zip" and any(other.startswith("emnist-") for other in names):
                ignored += 1  # EMNIST's, which torchvision has unpacked beside it
            elif archives.suffix(name):
                removed_here = (removed_from or {}).get(name, set())
                ignored += _find_in_archive(root, path, table, containers, work, refused, removed_here)
            else:
                # Asking for every file's size would take as long as all the rest.
                if len(rows) % _SIZE_OF_EVERY == 0:
                    size = _size(f"{root}/{path}")
                rows.append((normal(path), 0, path, -1, size))
        table.executemany("insert into found values (?, ?, ?, ?, ?)", rows)
    require_names(root, refused)
    if linked:
        raise UserError(
            f"{root}/: {len(linked)} folders are links. DVC tracks nothing behind them, so nobody else would get these "
            f"images. Copy what they lead to into {root}/ (`cp -rL`); if this disk is too small for it, move DVC's "
            "cache to a larger one (docs/own-data.md):\n" + listed(sorted(linked))
        )
    return Ignored(ignored, hidden, sorted(empty), gone)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a Path for each of many files takes as long as the rest
    except OSError:
        return 0  # such as a link that leads nowhere; reading it will say so


def _refuse_hidden(root: Path, prefix: str, names: list[str]) -> None:
    """UserError where DVC does not track the table of removed files: others would have these again."""
    if REMOVED not in names:
        raise UserError(
            f"{root}/{prefix}{REMOVED}: hidden by .dvcignore, so others would get the shards without it, and read what "
            "it leaves out. Take the pattern that hides it out of .dvcignore."
        )


def _find_in_archive(
    root: Path,
    path: str,
    table: sqlite3.Connection,
    containers: list[Container],
    work: Path,
    refused: list[str],
    gone: set[str],
) -> int:
    """The number of members that are clutter. `gone`: the members that count as removed."""
    archive = archives.make_readable(root / path, work)
    folder, _, name = path.rpartition("/")
    stem = name[: -len(archives.suffix(name))]
    number = len(containers)
    containers.append(Container(archive.kind, str(archive.file)))
    ignored = 0
    met: set[str] = set()

    def rows() -> Iterator[tuple[str, int, str, int, int]]:
        nonlocal ignored
        for member in archives.members(archive, root / path):
            if member.stored in gone:
                met.add(member.stored)
            elif any(is_clutter(part) for part in member.name.split("/")):
                ignored += 1
            elif reason := why_refused(member.name):
                refused.append(f"{member.name!r} in {path}: {reason}")
            else:
                inside = "/".join(filter(None, (folder, member.name)))
                yield normal(inside), number, member.stored, member.offset, member.size

    table.executemany("insert into found values (?, ?, ?, ?, ?)", rows())
    removed.refuse_unknown(root / folder / REMOVED, name, gone - met)
    tops = {top for (top,) in table.execute("select distinct top(path) from found where container = ?", (number,))}
    if not folder and split_named(stem) and not any(map(split_named, tops)):
        table.execute("update found set path = ? || path where container = ?", (f"{stem}/", number))
    return ignored


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is one that programs leave beside people's files."""
    return name.startswith(".") or name.lower() in CLUTTER


def refuse_twice(root: Path, table: sqlite3.Connection) -> None:
    """Raise UserError where one path exists twice, such as in an archive and beside it."""
    twice = [
        path for (path,) in table.execute("select path from found group by path having count(*) > 1 order by path")
    ]
    if twice:
        raise UserError(
            f"{root}/: {len(twice)} files are there twice: in an archive and beside it or in another, or under "
            "names that look the same. Keep one:\n" + listed(twice)
        )
