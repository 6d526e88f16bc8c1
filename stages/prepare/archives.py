"""Archives as folders: the members of zip and tar files, listed and read without unpacking a file by its own name.

A compressed tar cannot be read at random, so it is decompressed, as one file, into prepare's working folder.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stages.common.errors import UserError, listed
from stages.prepare.reader import NotAFile, open_regular

# An xz file says how much memory its decoder needs, up to 4 GB; `xz -9` says 65 MiB.
_XZ_MEMORY = 2**28
# Tar keeps long names, times and attributes in headers of their own, which tarfile reads whole.
_MAX_TAR_HEADER = 2**20
_TAR_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")
# Other methods decompress as much as a file likes in one step; and no program packs images by them unasked.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Pictures are compressed already, uncompressed ones shrink to a tenth at best; beyond this an archive is a bomb.
_MAX_RATIO = 200
_RATIO_MATTERS_FROM = 64 * 2**20
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    RecursionError,  # a header before a header, before a header, …
    ValueError,  # such as a number or an offset that is none
    IndexError,  # such as a header that is cut off
    OverflowError,
    NotImplementedError,  # such as a version of zip to come
)
_BLOCK = 2**20


class Member(NamedTuple):
    """A file in an archive: its name with forward slashes; where its bytes begin (-1 in a zip file); their number; and
    its name as the archive has it."""

    name: str
    offset: int
    size: int
    stored: str


class _TarInfo(tarfile.TarInfo):
    """A member of a tar file whose headers are whole, its long name and attributes no longer than any are."""

    def _proc_member(self, file: tarfile.TarFile) -> tarfile.TarInfo:
        longest = _MAX_TAR_HEADER if self.type in _TAR_HEADERS else Path(str(file.name)).stat().st_size
        if not 0 <= self.size <= longest:
            raise tarfile.ReadError(f"a header or member of {self.size:,} bytes; at most {longest:,} can be there")
        return super()._proc_member(file)  # type: ignore[misc,no-any-return]

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """The next member. ReadError for a header that is none, which TarFile takes for the end of the archive."""
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"{error} at byte {tarfile_.offset:,}") from None
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it ends without an end mark: its last part is missing") from None


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


def make_readable(path: Path, work: Path) -> Archive:
    """Give random access to an archive; decompresses a compressed tar into the folder `work`.

    Raises UserError where it is damaged, no regular file, or unpacks to more than 200 times its size.
    """
    try:
        descriptor, size = open_regular(path)
    except NotAFile as error:
        raise UserError(f"{path}: {error}; expected an archive. Remove it.") from None
    os.close(descriptor)
    kind = suffix(path.name)
    if kind in (".zip", ".tar"):
        return Archive(kind[1:], path)
    copy = work / f"{len(list(work.iterdir()))}.tar"
    limit = max(_MAX_RATIO * size, _RATIO_MATTERS_FROM)
    try:
        with copy.open("wb") as target:
            for block in _xz_blocks(path) if kind.endswith("xz") else _blocks(path, kind):
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


def _blocks(path: Path, kind: str) -> Iterator[bytes]:
    with bz2.open(path) if kind.endswith("bz2") else gzip.open(path) as source:
        while block := source.read(_BLOCK):
            yield block


def _xz_blocks(path: Path) -> Iterator[bytes]:
    """What lzma.open reads, which has no limit for the memory that a file says its decoder needs."""
    with path.open("rb") as source:
        data = source.read(_BLOCK)
        while data.strip(b"\0"):  # there may be several streams, with zeros between them
            decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            while not decoder.eof:
                yield decoder.decompress(data, _BLOCK)
                data = source.read(_BLOCK) if decoder.needs_input else b""
                if decoder.needs_input and not data:
                    raise EOFError("ends in the middle of a stream")
            data = decoder.unused_data.lstrip(b"\0") or source.read(_BLOCK)


def members(archive: Archive, path: Path) -> Iterator[Member]:
    """The files in an archive, in its order. `path` is what messages call it.

    Raises UserError, at the end, that names every member that would lie outside the archive's folder, is a link or a
    device, or cannot be read within bounds; and where the archive is damaged or a bomb.
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
    end = 0
    with tarfile.open(path, "r:", tarinfo=_TarInfo) as tar:
        for info in tar:
            if info.size < 0 or info.offset < end:
                raise tarfile.ReadError("a member that begins before the end of another")
            end = info.offset_data + info.size
            tar.members = []  # type: ignore[attr-defined]  # TarFile would keep every member in memory
            reason = _unsafe(info.name)
            if not reason and (info.issparse() or not (info.isfile() or info.isdir())):
                reason = "a link" if info.issym() or info.islnk() else "not an ordinary file"
            name = info.name.removeprefix("./")
            yield info.name, reason, Member(name, info.offset_data, info.size, info.name) if info.isfile() else None


def _zip_members(path: Path) -> Iterator[tuple[str, str, Member | None]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _zip_name(info)
            if not name:
                shown = info.orig_filename.encode("cp437", "replace").decode("ascii", "surrogateescape")
                yield shown, "a name that is not UTF-8; pack again by a program that writes UTF-8", None
                continue
            reason = _unsafe(name)
            if not reason and stat.S_ISLNK(info.external_attr >> 16):
                reason = "a link"
            if not reason and info.flag_bits & 1:
                reason = "encrypted"
            if not reason and info.compress_type not in _ZIP_METHODS:
                reason = f"compressed by method {info.compress_type}; expected stored or deflated"
            is_folder = name.endswith("/")
            yield name, reason, None if is_folder else Member(name, -1, info.file_size, info.filename)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member as UTF-8 and with slashes; empty where its encoding is not known.

    A flag says that a name is UTF-8, or a field beside it has it in UTF-8 (PKWARE's APPNOTE, 4.4.4 and 4.6.9). Else
    zipfile takes the bytes for those of code page 437. On Linux and macOS they are UTF-8 all the same, on Windows of
    the user's code page, such as GBK, of which some are valid UTF-8 for something else. Microsoft's programs used to
    write backslashes.
    """
    # As it was read: `filename` is what the field says since Python 3.12, and not before. It ends at a zero in both.
    name, of_windows = info.orig_filename.partition("\0")[0], info.create_system in (0, 10)
    if not info.flag_bits & 0x800 and not name.isascii():
        raw = name.encode("cp437", "replace")
        try:
            name = (_unicode_path(info.extra, raw) or (b"" if of_windows else raw)).decode("utf-8")
        except UnicodeError:
            return ""
    return name.replace("\\", "/") if of_windows else name


def _unicode_path(extra: bytes, name: bytes) -> bytes:
    """Info-ZIP's field with the name in UTF-8, if it belongs to this name; else empty."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and field[:1] == b"\1" and field[1:5] == struct.pack("<I", zlib.crc32(name)):
            return field[5:]
    return b""


def _unsafe(name: str) -> str:
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:/", name):
        return "an absolute path or one with backslashes"
    return "leads outside" if ".." in name.split("/") else ""


def _refuse_zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile("members overlap")
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
