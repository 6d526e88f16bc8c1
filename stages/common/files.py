"""Writing files so that a reader sees the whole file or none, and the same content gives the same bytes."""

import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stages.common.documents import DocumentError, parse_json
from stages.common.errors import UserError
from stages.common.locks import try_lock

# In a folder that is being made, to tell it from somebody's of the same name.
_MARK = ".being-made"
_LITTER_SECONDS = 60


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`; on success it becomes `path` in one step, on failure it is removed.

    Where `path` is a link, which anybody may have committed, the link is replaced, and what it points to stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_litter(path)
    with _new_file(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, under a name that nobody can foresee, so that no link waits there; removed at the
    end. Locked until then, where the file system has locks, so that others see that it is in use."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _remove_litter(path: Path) -> None:
    """Remove what killed processes have left of writing `path`: files of such names that nobody has locked."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp")
    for file in [file for file in path.parent.iterdir() if name.fullmatch(file.name)]:
        with suppress(OSError):
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                # One that is seconds old may not be locked yet.
                if time.time() - os.fstat(descriptor).st_mtime > _LITTER_SECONDS and try_lock(descriptor):
                    file.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def replacing_folder(
    folder: Path, names: Collection[str] = (), patterns: Mapping[str, re.Pattern[str]] = MappingProxyType({})
) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success it takes its place, on failure it is removed.

    What is in that place before may hold files of these `names`, folders named in `patterns` with files whose names
    match, and nothing else. Raises UserError, before the work and after it, where it is a link or has anything else in
    it: that is somebody's.
    """
    _refuse_others(folder, names, patterns)
    temporary = folder.with_name(f".{folder.name}.tmp")
    mark = temporary / _MARK
    if os.path.lexists(temporary):
        if temporary.is_symlink() or not mark.is_file() or mark.is_symlink():
            raise UserError(f"{temporary}: in the way of a folder that is to be made. Move it away, then run again.")
        shutil.rmtree(temporary)  # left by a run that was killed
    temporary.mkdir(parents=True)
    mark.touch()
    try:
        yield temporary
        _refuse_others(folder, names, patterns)
        if folder.exists():
            for name in names:
                (folder / name).unlink(missing_ok=True)
            for inner in filter(Path.exists, map(folder.joinpath, patterns)):
                for file in list(inner.iterdir()):
                    file.unlink()
                inner.rmdir()
            folder.rmdir()
        mark.unlink()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_others(folder: Path, names: Collection[str], patterns: Mapping[str, re.Pattern[str]]) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder}: expected a folder, got a link or a file. Move it away, then run again.")
    others = []
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        is_folder = path.is_dir() and not path.is_symlink()
        if is_folder and path.name in patterns:
            pattern = patterns[path.name]
            others += [
                f"{path.name}/{inner.name}"
                for inner in sorted(path.iterdir())
                if not pattern.fullmatch(inner.name) or (inner.is_dir() and not inner.is_symlink())
            ]
        elif is_folder or path.name not in names:
            others.append(path.name)
    if others:
        raise UserError(
            f"{folder}/: is to be made anew, and holds what was not made here: {', '.join(map(repr, others[:5]))}"
            f"{', …' if len(others) > 5 else ''}. Move it away, then run again."
        )


def require_writable(*paths: Path) -> None:
    """Raise PermissionError, or whatever the system says, where one of these files could not be written: before the
    work whose result would be lost. UserError where a file has the place of a folder. Creates their folders."""
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{path.parent}: expected a folder, got a file. Move it away, then run again.") from None
        with _new_file(path):
            pass


def write_text(path: Path, content: str) -> None:
    """Write `content` as UTF-8, with line feeds as they are."""
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON. NaN and infinity, which JSON does not have, raise ValueError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read an object that `write_json` wrote. UserError with `remedy` where the file is missing or not such JSON."""
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {remedy}") from None
    except DocumentError as error:
        raise UserError(f"{path}: not readable as JSON ({error}). {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}. {remedy}")
    return content
