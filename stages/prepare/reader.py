"""Where the bytes of raw images lie, and reading them at random: a folder, a zip or tar file, or bare pixels."""

import errno
import io
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from stages.prepare.picture import MAX_PIXELS, NotAPicture

# As uncompressed RGBA of the most pixels that picture.py reads.
MAX_FILE_BYTES = 4 * MAX_PIXELS
# What reading a member raises whose archive is damaged, or of a kind that is not read.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class TooLarge(Exception):  # noqa: N818  # it says what is wrong
    """A file of more bytes than any picture has; the text says how many."""


class NotAFile(Exception):  # noqa: N818  # it says what is wrong
    """A name without bytes of its own behind it; the text says what it is."""


_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class Container(NamedTuple):
    """`kind` is folder, zip or tar, of encoded pictures, or pixels, of bare uint8 images of `shape` (H, W, C)."""

    kind: str
    file: str
    shape: tuple[int, int, int] = (0, 0, 0)


class Place(NamedTuple):
    """One file in a container: its name in a folder or zip file, or where its bytes begin; their number, which is only
    about right for a file in a folder."""

    container: int
    member: str | None
    offset: int
    size: int


class Reader:
    """Reads from containers; keeps archives open. Not to be shared between processes."""

    def __init__(self, containers: list[Container]) -> None:
        self._containers = containers
        self._files: dict[int, int] = {}
        self._zips: dict[int, zipfile.ZipFile] = {}

    def read(self, place: Place) -> bytes:
        """The bytes at `place`. OSError, zipfile.BadZipFile, zlib.error and the like where they cannot be read, and
        NotAFile.

        TooLarge before anything is read of what says that it is; and what says less gives no more than it says.
        """
        container = self._containers[place.container]
        if place.size > MAX_FILE_BYTES and container.kind != "folder":
            raise TooLarge(f"{place.size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        if container.kind == "folder":
            descriptor, size = open_regular(f"{container.file}/{place.member}")
            try:
                if size > MAX_FILE_BYTES:
                    raise TooLarge(f"{size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
                return _read_whole(descriptor, size)
            finally:
                os.close(descriptor)
        if container.kind == "zip":
            # ZipFile.read decompresses all that is there, whatever size is stated, and cuts it off then.
            with self._zip(place).open(str(place.member)) as stream:
                return stream.read(place.size)
        return os.pread(self._file(place), place.size, place.offset)

    def pixels(self, place: Place) -> np.ndarray | None:
        """The image at `place`, uint8 H×W×3, where the container holds bare pixels; else None."""
        container = self._containers[place.container]
        if container.kind != "pixels":
            return None
        return np.frombuffer(self.read(place), np.uint8).reshape(container.shape)

    def picture(self, place: Place) -> bytes:
        """The bytes at `place`. Raises NotAPicture where they cannot be read."""
        try:
            return self.read(place)
        except (NotAFile, TooLarge) as reason:
            raise NotAPicture(str(reason)) from None
        except DAMAGED as error:
            raise NotAPicture(f"damaged in its archive: {error}") from None

    def open(self, place: Place) -> IO[bytes]:
        """A stream of the bytes at `place`, however many. Raises NotAFile."""
        container = self._containers[place.container]
        if container.kind == "folder":
            return os.fdopen(open_regular(f"{container.file}/{place.member}")[0], "rb")
        if container.kind == "zip":
            return self._zip(place).open(str(place.member))
        return io.BufferedReader(_Section(self._file(place), place.offset, place.size))

    def _zip(self, place: Place) -> zipfile.ZipFile:
        if place.container not in self._zips:
            self._zips[place.container] = zipfile.ZipFile(self._containers[place.container].file)
        return self._zips[place.container]

    def _file(self, place: Place) -> int:
        if place.container not in self._files:
            self._files[place.container] = os.open(self._containers[place.container].file, os.O_RDONLY)
        return self._files[place.container]


class _Section(io.RawIOBase):
    """`size` bytes of a file from `offset` on, read from the start to the end."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._position = offset
        self._end = offset + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._descriptor, min(len(buffer), self._end - self._position), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_regular(path: str | Path) -> tuple[int, int]:
    """A descriptor to read a file, and its size. Raises NotAFile; nothing else that is there is waited for.

    os.open takes half the time of open(), which counts for small pictures.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotAFile("a link that leads nowhere, or removed since") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile("a link that leads to itself") from None
        if error.errno == errno.ENXIO:
            raise NotAFile(_KINDS[stat.S_IFSOCK]) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotAFile(_KINDS.get(stat.S_IFMT(status.st_mode), "no regular file"))
    return descriptor, status.st_size


def _read_whole(descriptor: int, size: int) -> bytes:
    """All bytes of a file that has so many, or a few more, should it be written to."""
    length = size + 1
    blocks = []
    total = 0
    while block := os.read(descriptor, length):
        blocks.append(block)
        total += len(block)
        if total > MAX_FILE_BYTES:
            raise TooLarge(f"more than {MAX_FILE_BYTES:,} bytes")
        if len(block) < length:  # of a regular file, that is its end
            break
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)
