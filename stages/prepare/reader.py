"""Where the bytes of raw images lie, and reading them at random: a folder, a zip or tar file, or bare pixels."""

import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np


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
        """The bytes at `place`. OSError, zipfile.BadZipFile, zlib.error and the like where they cannot be read."""
        container = self._containers[place.container]
        if container.kind == "folder":
            # os.open takes half the time of open(), which counts for small pictures.
            descriptor = os.open(f"{container.file}/{place.member}", os.O_RDONLY)
            try:
                return _read_whole(descriptor, place.size)
            finally:
                os.close(descriptor)
        if container.kind == "zip":
            if place.container not in self._zips:
                self._zips[place.container] = zipfile.ZipFile(container.file)
            return self._zips[place.container].read(str(place.member))
        if place.container not in self._files:
            self._files[place.container] = os.open(container.file, os.O_RDONLY)
        return os.pread(self._files[place.container], place.size, place.offset)

    def pixels(self, place: Place) -> np.ndarray | None:
        """The image at `place`, uint8 H×W×3, where the container holds bare pixels; else None."""
        container = self._containers[place.container]
        if container.kind != "pixels":
            return None
        return np.frombuffer(self.read(place), np.uint8).reshape(container.shape)

    def open(self, place: Place) -> IO[bytes]:
        """A stream of the bytes at `place`."""
        container = self._containers[place.container]
        if container.kind == "folder":
            return Path(container.file, str(place.member)).open("rb")
        return BytesIO(self.read(place))


def _read_whole(descriptor: int, about: int) -> bytes:
    """All bytes of a file that has about so many."""
    length = max(2**16, 2 * about)
    blocks = []
    while block := os.read(descriptor, length):
        blocks.append(block)
        if len(block) < length:  # of a regular file, that is its end
            break
    return b"".join(blocks)
