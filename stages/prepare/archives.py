"""Archives as folders: the members of zip and tar files, listed and read without unpacking a file by its own name.

A compressed tar cannot be read at random, so it is decompressed, as one file, into prepare's working folder.
"""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages.common.errors import UserError, listed

_DECOMPRESS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
}
_SUFFIXES = (".zip", ".tar", *_DECOMPRESS)
# Pictures are compressed already, uncompressed ones shrink to a tenth at best; beyond this an archive is a bomb.
_MAX_RATIO = 200
_RATIO_MATTERS_FROM = 64 * 2**20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)


class Member(NamedTuple):
    """A file in an archive: its name with forward slashes; where its bytes begin (-1 in a zip file); their number."""

    name: str
    offset: int
    size: int


class Archive(NamedTuple):
    """An archive that can be read at random: `kind` is zip or tar, `file` the archive or its decompressed copy."""

    kind: str
    file: Path


def suffix(name: str) -> str:
    """The part of a file's name that makes it an archive; empty where it is none."""
    lower = name.lower()
    if not lower.endswith(_SUFFIXES):
        return ""
    return next(known for known in _SUFFIXES if lower.endswith(known))


def is_utf8(name: str) -> bool:
    """False for a name whose bytes are not UTF-8, which Python keeps as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def make_readable(path: Path, work: Path) -> Archive:
    """Give random access to an archive; decompresses a compressed tar into the folder `work`.

    Raises UserError where it is damaged, or unpacks to more than 200 times its size.
    """
    kind = suffix(path.name)
    if kind in (".zip", ".tar"):
        return Archive(kind[1:], path)
    copy = work / f"{len(list(work.iterdir()))}.tar"
    limit = max(_MAX_RATIO * path.stat().st_size, _RATIO_MATTERS_FROM)
    try:
        with _DECOMPRESS[kind](path) as source, copy.open("wb") as target:
            while block := source.read(2**20):
                target.write(block)
                if target.tell() > limit:
                    raise _bomb(path)
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, error) from None  # gzip and bz2 raise a bare OSError for bytes that are not theirs
    return Archive("tar", copy)


def members(archive: Archive, path: Path) -> Iterator[Member]:
    """The files in an archive, in its order. `path` is what messages call it.

    Raises UserError, at the end, that names every member that would lie outside the archive's folder, is a link or a
    device, or is encrypted; and where the archive is damaged or a bomb.
    """
    refused = []
    try:
        if archive.kind == "zip":
            _refuse_zip_bomb(path)
        for name, reason, member in (_zip_members if archive.kind == "zip" else _tar_members)(archive.file):
            if reason:
                refused.append(f"{name!r}: {reason}")
            elif member is not None:
                yield member
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    if refused:
        raise UserError(f"{path}: {len(refused)} members that no archive of images has:\n" + listed(refused))


def _tar_members(path: Path) -> Iterator[tuple[str, str, Member | None]]:
    """(name, reason to refuse it, the member or None for a folder) of each member."""
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # TarFile would keep every member in memory
            reason = _unsafe(info.name)
            if not reason and not (info.isfile() or info.isdir()):
                reason = "a link" if info.issym() or info.islnk() else "not an ordinary file"
            name = info.name.removeprefix("./")
            yield info.name, reason, Member(name, info.offset_data, info.size) if info.isfile() else None


def _zip_members(path: Path) -> Iterator[tuple[str, str, Member | None]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            reason = _unsafe(info.filename)
            if not reason and stat.S_ISLNK(info.external_attr >> 16):
                reason = "a link"
            if not reason and info.flag_bits & 1:
                reason = "encrypted"
            yield info.filename, reason, None if info.is_dir() else Member(info.filename, -1, info.file_size)


def _unsafe(name: str) -> str:
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:/", name):
        return "an absolute path or one with backslashes"
    if not is_utf8(name):
        return "not UTF-8"
    return "leads outside" if ".." in name.split("/") else ""


def _refuse_zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
        if total > max(_MAX_RATIO * path.stat().st_size, _RATIO_MATTERS_FROM):
            raise _bomb(path)


def _bomb(path: Path) -> UserError:
    return UserError(
        f"{path}: unpacks to more than {_MAX_RATIO} times its {path.stat().st_size:,} bytes; no archive of images "
        "does. If it is yours, unpack it and put the images into the folder."
    )


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged ({error or type(error).__name__}). Get it again, or remove it.")
