"""Where the shards of a split come from: files of prepared/."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple, Protocol

from stages.common.errors import UserError

# Images of so many shards are mixed in an epoch's order. Each shard is a random part of its split already, because it
# holds the images whose SHA-256 begin alike; so few are enough. Two windows of shards of 8 to 16 MiB stay in memory.
WINDOW = 8


class Shard(NamedTuple):
    """A shard as prepared/ describes it: its path there, the bytes of its file, and their SHA-256."""

    name: str
    size: int
    sha256: str


class ShardSource(Protocol):
    """Gives files of a split's shards, which are named by their numbers."""

    def fetch(self, shards: Sequence[int]) -> None:
        """Announce the shards needed next, in this order; returns at once (read-ahead).

        At most two WINDOWs of shards are announced and not released; as many are in use by a batch with images of both.
        """

    def path(self, shard: int) -> Path:
        """The local file of a shard of the split, whole and checked; waits for it. UserError where it cannot be had."""

    def release(self, shard: int) -> None:
        """Not needed any more in this pass; a cache may drop it."""


class LocalShards:
    """Shards that lie in prepared/, where DVC puts them."""

    def __init__(self, shards: Sequence[Shard], folder: Path, remedy: str) -> None:
        """`remedy`: what makes the files of `folder`, for the message about one that is not as described."""
        self._shards = shards
        self._folder = folder
        self._remedy = remedy
        # As a whole, once: nobody changes files of prepared/ during a run.
        self._checked: set[int] = set()
        self._locks: defaultdict[int, Lock] = defaultdict(Lock)

    def fetch(self, shards: Sequence[int]) -> None:
        """Check them, and so have the system read them into its cache; later, have it read them."""
        # Those of a pool would keep a process that ends until all are read.
        Thread(target=self._fetch_ahead, args=(list(shards),), daemon=True).start()

    def path(self, shard: int) -> Path:
        path = self._folder / self._shards[shard].name
        with self._locks[shard]:
            if shard not in self._checked:
                if reason := why_other(path, self._shards[shard]):
                    raise UserError(f"{path}: {reason}. {self._remedy}")
                self._checked.add(shard)
        return path

    def release(self, shard: int) -> None:
        """The system drops what it has to."""

    def _fetch_ahead(self, shards: Sequence[int]) -> None:
        for shard in shards:
            # What is wrong, `path` says to whoever needs it.
            with suppress(UserError, OSError):
                if shard in self._checked:
                    read_ahead(self._folder / self._shards[shard].name)
                else:
                    self.path(shard)


def open_shards(shards: Sequence[Shard], folder: Path, remedy: str) -> ShardSource:
    """The source of a split's shards, in the order of their numbers, that this machine has."""
    if os.environ.get("SHARDS_FROM"):
        from stages.model.streaming import open_streamed

        return open_streamed(shards)
    return LocalShards(shards, folder, remedy)


def read_ahead(path: Path) -> None:
    """Have the system read a file into its cache, where it can be told to (not on macOS)."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def why_other(path: Path, shard: Shard) -> str:
    """Why a file is not the shard that prepared/ describes; an empty text where it is. Reads all of it."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != shard.size:
                return f"{size:,} bytes; expected {shard.size:,}, by the places of its pictures"
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror or str(error)
    if digest != shard.sha256:
        return (
            f"not the shard of {path.parent.parent}/dataset.json, which says SHA-256 {shard.sha256[:16]}…; "
            f"got {digest[:16]}…"
        )
    return ""
