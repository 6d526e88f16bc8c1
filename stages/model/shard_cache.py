"""A folder of this machine for shards on their way from a storage, which never holds more bytes than it may.

Files are named by the SHA-256 of their content, so processes of one training, of several, and of several projects may
share a folder. What a process uses is locked, shared; what nobody has locked is removed when room is needed, the
longest unused first. A lock ends with its process, so a killed one leaves nothing that is in the way:

<sha256>.shard  a whole shard, checked when it came
<sha256>.<bytes>.part  locked by whoever fetches that shard: room is taken
<sha256>.data  what has come of it
"""

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from stages.common.errors import UserError
from stages.common.locks import try_lock, why_no_locks
from stages.model.sources import Shard

# Tells a folder of shards from somebody's of the same name.
_MARK = ".dvc-pytorch-shards"
_OURS = re.compile(r"([0-9a-f]{64})\.(?:shard|data|([0-9]+)\.part)")


class Held(NamedTuple):
    """A shard in the folder that nobody removes until `release`: its file, and the lock on it."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Let it be removed; note that it was used just now."""
        with suppress(OSError):
            os.utime(self.descriptor)
        os.close(self.descriptor)


class Room(NamedTuple):
    """Room in the folder for a shard that is to come, and where to write it."""

    path: Path
    part: Path
    descriptor: int


class BusyError(Exception):
    """Another process or thread is fetching this shard."""


class FullError(Exception):
    """All that is in the folder is in use."""


class ShardCache:
    """A folder for at most `limit` bytes of shards."""

    def __init__(self, folder: Path, limit: int) -> None:
        """UserError where the folder is somebody else's, or on a file system without locks."""
        self.folder = folder
        self.limit = limit
        # Files that this process has read as a whole, by device and inode.
        self._checked: set[tuple[int, int, str]] = set()
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in folder.iterdir() if path.name != _MARK)
        if others and not (folder / _MARK).is_file():
            raise UserError(
                f"{folder}: expected an empty folder, or one of shards; it holds {others[0]!r}. Set SHARDS_CACHE to a "
                "folder of its own."
            )
        (folder / _MARK).touch()
        if reason := why_no_locks(folder):
            raise UserError(f"{reason}. Set SHARDS_CACHE to a folder on a local disk.")

    def find(self, shard: Shard) -> Held | None:
        """A shard that is there, held; None where it is not. One whose content is another is removed."""
        path = self.folder / f"{shard.sha256}.shard"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            status = os.fstat(descriptor)
            if not os.path.samestat(status, path.stat()):
                raise FileNotFoundError
            identity = (status.st_dev, status.st_ino, shard.sha256)
            if identity not in self._checked or status.st_size != shard.size:
                if why_damaged(path, shard):
                    path.unlink()
                    raise FileNotFoundError
                self._checked.add(identity)
        except FileNotFoundError:  # removed by another process, or just now
            os.close(descriptor)
            return None
        return Held(path, descriptor)

    def take_room(self, shard: Shard) -> Room:
        """Room for a shard, made by removing others that nobody uses. Raises BusyError and FullError."""
        with self._alone():
            part = self.folder / f"{shard.sha256}.{shard.size}.part"
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            if not try_lock(descriptor):
                os.close(descriptor)
                raise BusyError
            room = Room(self.folder / f"{shard.sha256}.data", part, descriptor)
            try:
                self._make_room()
            except BaseException:
                self._give_back(room)
                raise
            return room

    def keep(self, room: Room, shard: Shard) -> None:
        """Make what has come the shard's file, which `find` finds; before `give_back`."""
        with self._alone():
            room.path.replace(self.folder / f"{shard.sha256}.shard")

    def give_back(self, room: Room) -> None:
        """Give back room, and remove what lies there."""
        # Whoever adds up what is there sees a shard, or its room, or both; never neither.
        with self._alone():
            self._give_back(room)

    def _give_back(self, room: Room) -> None:
        room.path.unlink(missing_ok=True)
        room.part.unlink(missing_ok=True)
        os.close(room.descriptor)

    def _make_room(self) -> None:
        """Remove the longest unused shards until all that is there, and to come, fits. FullError where it cannot."""
        found: list[tuple[float, Path, int]] = []
        taken = 0
        for path in list(self.folder.iterdir()):
            match = _OURS.fullmatch(path.name)
            if match is None:
                continue
            with suppress(FileNotFoundError):  # another process has just removed it
                if match[2]:
                    if self._is_litter(path):
                        path.unlink()
                        (self.folder / f"{match[1]}.data").unlink(missing_ok=True)
                    else:
                        taken += int(match[2])
                elif path.suffix == ".shard":
                    status = path.lstat()
                    found.append((status.st_mtime, path, status.st_size))
        total = taken + sum(size for _, _, size in found)
        for _, path, size in sorted(found):
            if total <= self.limit:
                break
            if self._remove(path):
                total -= size
        if total > self.limit:
            raise FullError

    def _is_litter(self, part: Path) -> bool:
        """Whether nobody fetches this any more. Its own room a process has locked, too."""
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            return try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _remove(self, path: Path) -> bool:
        """Remove a shard unless somebody uses it."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            return error.errno == errno.ENOENT
        try:
            if not try_lock(descriptor):
                return False
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process or thread looks for room."""
        with (self.folder / _MARK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def why_damaged(path: Path, shard: Shard) -> str:
    """Why a file is not a shard, by its size and SHA-256; an empty text where it is."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != shard.size:
            return f"{size:,} bytes; expected {shard.size:,}"
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return "" if digest == shard.sha256 else f"SHA-256 {digest[:16]}…; expected {shard.sha256[:16]}…"
