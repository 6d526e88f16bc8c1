"""Shards: tar files whose bytes depend on the names and the content of their files alone. Written, and read again, by
several processes at once (stages/prepare/processes.py)."""

import hashlib
import os
import secrets
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stages.common.errors import UserError, listed
from stages.common.names import why_refused
from stages.prepare import archives
from stages.prepare.reader import NotAFile, open_regular

# Of what is being written.
_TEMPORARY = ".shard.{}.tmp"
# A file may have changed again within one step of its file system's clock, of which two seconds, FAT's, is the longest.
CLOCK_STEP = 2 * 10**9
_BLOCK = 2**20


class Listed(NamedTuple):
    """A file of the folder: its name there, its status when it was listed, and its size in bytes."""

    name: str
    status: str
    size: int


class Member(NamedTuple):
    """What was read of a file: its name, its size in bytes and their SHA-256."""

    name: str
    size: int
    sha256: bytes


class Read(NamedTuple):
    """What files held; and those of them whose status will tell whether they still hold it (`is_settled`)."""

    members: list[Member]
    settled: list[Listed]


class Written(NamedTuple):
    """A new shard: the file, which has another name yet; its name, by the SHA-256 of its bytes; and what it holds."""

    file: Path
    name: str
    read: Read


class Setting(NamedTuple):
    """The folder that is packed, that of the shards, and a word of this run's own."""

    source: Path
    dest: Path
    word: str


def status_of(status: os.stat_result) -> str:
    """What changes with a file's content: the times of its content and of its inode, its size, and which inode it is.

    DVC and Git go by the same; the time of the inode, which no program sets, differs too where another time was set
    back.
    """
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"


def is_settled(status: str, at: int) -> bool:
    """Whether a file of this status, read since `at` (nanoseconds since 1970), would have another one had it changed
    since. One that was written just before may be written once more within the same time stamp (Git's documentation,
    technical/racy-git)."""
    modified, changed, *_ = map(int, status.split())
    return all(abs(at - moment) > CLOCK_STEP for moment in (modified, changed))


def remove_temporary(dest: Path, word: str = "*") -> None:
    """Remove what the run of this word has begun to write; all such files where no run is under way."""
    for file in list(dest.glob(_TEMPORARY.format(f"{word}.*"))):
        file.unlink(missing_ok=True)


def start(setting: Setting) -> None:
    """Called first in each process."""
    global _setting
    _setting = setting


_setting: Setting


def read_files(files: list[Listed]) -> Read:
    """UserError where a file changed since it was listed."""
    return _read_all(files, lambda member: None, lambda block: None)


def write_shard(files: list[Listed]) -> Written:
    """Write a tar file without times, owners and permissions. UserError where a file changed since it was listed."""
    path = _setting.dest / _TEMPORARY.format(f"{_setting.word}.{secrets.token_hex(8)}")
    try:
        with path.open("xb") as stream:
            return _write(path, stream, files)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(path: Path, stream: BinaryIO, files: list[Listed]) -> Written:
    whole = hashlib.sha256()

    def put(data: bytes) -> None:
        stream.write(data)
        whole.update(data)

    def begin(file: Listed) -> None:
        info = tarfile.TarInfo(file.name)
        info.size = file.size
        put(bytes(-stream.tell() % tarfile.BLOCKSIZE) + info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    read = _read_all(files, begin, put)
    put(bytes(-stream.tell() % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))  # two blocks of zeros are the end
    put(bytes(-stream.tell() % tarfile.RECORDSIZE))
    return Written(path, _name(whole.hexdigest()), read)


def _read_all(files: list[Listed], begin: Callable[[Listed], None], put: Callable[[bytes], None]) -> Read:
    """Read files, and give each to `begin`, then its bytes to `put`."""
    read = Read([], [])
    changed = []
    for file in files:
        at = time.time_ns()
        begin(file)
        digest = hashlib.sha256()
        try:
            descriptor, _ = open_regular(f"{_setting.source}/{file.name}")
        except NotAFile as error:
            changed.append(f"{file.name}: {error}")
            continue
        try:
            left = file.size if status_of(os.fstat(descriptor)) == file.status else 0
            while left and (block := os.read(descriptor, min(left, _BLOCK))):
                left -= len(block)
                digest.update(block)
                put(block)
            if status_of(os.fstat(descriptor)) != file.status:
                changed.append(file.name)
        finally:
            os.close(descriptor)
        read.members.append(Member(file.name, file.size, digest.digest()))
        if is_settled(file.status, at):
            read.settled.append(file)
    if changed:
        raise UserError(
            f"{_setting.source}: {len(changed)} files changed while they were packed. The shards are as they were: "
            "pack again when nobody writes there.\n" + listed(changed)
        )
    return read


def examine(task: tuple[Path, bool]) -> tuple[str, list[Member]]:
    """The name of a shard by its bytes, and its members: none where they are known, or where it has another name.

    `task`: the shard, and whether its members are known. UserError where it holds what none does.
    """
    shard, is_known = task
    with shard.open("rb") as stream:
        name = _name(hashlib.file_digest(stream, "sha256").hexdigest())
        members: dict[str, Member] = {}
        if is_known or name != shard.name:
            return name, []
        for member in archives.members(archives.Archive("tar", shard), shard):
            if why_refused(member.stored) or member.stored in members:
                raise UserError(f"{shard}: not a shard that this command wrote. Move it away, then pack again.")
            digest = hashlib.sha256()
            left = member.size
            stream.seek(member.offset)
            while left and (block := stream.read(min(left, _BLOCK))):
                left -= len(block)
                digest.update(block)
            members[member.stored] = Member(member.stored, member.size, digest.digest())
    return name, list(members.values())


def _name(sha256: str) -> str:
    return f"shard-{sha256[:16]}.tar"
