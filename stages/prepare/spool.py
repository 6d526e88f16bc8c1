"""Encoded pictures on their way into shards: files by the first bits of the SHA-256, so that they can be removed one
after the other while shards are written. Each process appends to files of its own."""

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

_BITS = 5
GROUPS = 1 << _BITS


class Spooled(NamedTuple):
    """Where an encoded picture lies: the process that wrote it, the first byte in its file of the group, the size."""

    process: int
    start: int
    size: int


def group_of(sha256: bytes) -> int:
    """The group of files that a picture is in, by the SHA-256 of its pixels."""
    return sha256[0] >> (8 - _BITS)


def append(folder: Path, pictures: list[tuple[bytes, bytes]]) -> list[Spooled]:
    """Append pictures, each with its SHA-256, to this process's files in `folder`; where they are, in their order."""
    of_group: dict[int, list[int]] = defaultdict(list)
    for index, (sha256, _) in enumerate(pictures):
        of_group[group_of(sha256)].append(index)
    places: dict[int, Spooled] = {}
    for group, indices in of_group.items():
        with (folder / _name(group, os.getpid())).open("ab") as stream:
            for index in indices:
                picture = pictures[index][1]
                places[index] = Spooled(os.getpid(), stream.tell(), len(picture))
                stream.write(picture)
    return [places[index] for index in range(len(pictures))]


def path_of(folder: Path, sha256: bytes, process: int) -> Path:
    """The file of a process that holds a picture."""
    return folder / _name(group_of(sha256), process)


def remove(folder: Path, group: int) -> None:
    """Remove the files of a group."""
    for path in list(folder.glob(_name(group, "*"))):
        path.unlink()


def _name(group: int, process: int | str) -> str:
    return f"{group:02}-{process}"
