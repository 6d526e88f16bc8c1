"""Shards of a split that come from a storage as they are needed, through a bounded folder of this machine.

The environment says so, because it is a matter of the machine and no result depends on it:

SHARDS_FROM          a remote of DVC by its name, or the address of one
SHARDS_CACHE         the folder; by default .dvc/tmp/shards
SHARDS_CACHE_GB      at most so many GB (10^9 bytes) in it; by default half of what is free there
SHARDS_WAIT_SECONDS  how long to ask a storage again that does not answer; by default 600
"""

import errno
import os
import shutil
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from stages.common.errors import UserError
from stages.model.shard_cache import BusyError, FullError, Held, ShardCache, why_damaged
from stages.model.shard_storage import Storage, shown
from stages.model.sources import WINDOW, Shard

FROM, CACHE, CACHE_GB, WAIT = "SHARDS_FROM", "SHARDS_CACHE", "SHARDS_CACHE_GB", "SHARDS_WAIT_SECONDS"
# Shards under way at a time: one stream of most storages is slower than a disk.
_AT_A_TIME = 4
# How often to look whether another process has fetched a shard, or given room back.
_POLL_SECONDS = 0.02
_DEFAULT_WAIT_SECONDS = 600.0


def origin() -> str:
    """Where shards are to come from, for logs and records; an empty text where from prepared/."""
    return shown(os.environ.get(FROM, ""))


_splits: "weakref.WeakSet[StreamedShards]" = weakref.WeakSet()


class StreamedShards:
    """Shards that a storage has. Those announced come ahead, as far as there is room for them."""

    def __init__(self, shards: Sequence[Shard], storage: Storage, cache: ShardCache, patience: float) -> None:
        """`patience`: for how many seconds to wait for room that other processes use."""
        self._shards = shards
        self._storage = storage
        self._cache = cache
        self._patience = patience
        self._changed = threading.Condition()
        self._announced: deque[int] = deque()
        # By whoever calls `path`, or ahead.
        self._coming: set[int] = set()
        self._held: dict[int, Held] = {}
        self._used: set[int] = set()
        self._failed: dict[int, BaseException] = {}
        self._has_room = True
        self._let_go = time.monotonic()
        self._threads: list[threading.Thread] = []
        _splits.add(self)

    def fetch(self, shards: Sequence[int]) -> None:
        """Announce the shards needed next, in this order; returns at once."""
        with self._changed:
            known = {*self._announced, *self._coming, *self._held}
            self._announced.extend(shard for shard in dict.fromkeys(shards) if shard not in known)
            if not self._threads:
                # Those of a pool would keep a process that ends until the last download has.
                self._threads = [threading.Thread(target=self._fetch_ahead, daemon=True) for _ in range(_AT_A_TIME)]
                for thread in self._threads:
                    thread.start()
            self._changed.notify_all()

    def path(self, shard: int) -> Path:
        """The local file of a shard, whole and checked, until `release`; waits for it.

        UserError where the storage lacks or refuses it, or what it delivers is damaged, and where the folder has no
        room; StorageLostError where the storage does not answer.
        """
        with self._changed:
            self._changed.wait_for(lambda: shard not in self._coming)
            if error := self._failed.pop(shard, None):
                raise error
            if shard in self._held:
                self._used.add(shard)
                return self._held[shard].path
            if shard in self._announced:
                self._announced.remove(shard)
            self._coming.add(shard)
        held = None
        try:
            held = self._wait_for(shard)
        finally:
            with self._changed:
                self._coming.discard(shard)
                if held:
                    self._held[shard] = held
                    self._used.add(shard)
                self._changed.notify_all()
        return held.path

    def release(self, shard: int) -> None:
        """Not needed any more in this pass: other processes and shards may have its room."""
        with self._changed:
            self._used.discard(shard)
            if held := self._held.pop(shard, None):
                held.release()
            self._has_room = True
            self._let_go = time.monotonic()
            self._changed.notify_all()

    def _fetch_ahead(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._announced and self._has_room)
                shard = self._announced.popleft()
                self._coming.add(shard)
            held = error = None
            try:
                held = self._get(shard)
            except FullError:
                with self._changed:
                    self._announced.appendleft(shard)
                    self._has_room = False
            except BusyError:
                # Another process has begun with it; the others, then this one.
                with self._changed:
                    self._announced.append(shard)
                time.sleep(_POLL_SECONDS)
            except BaseException as failure:  # whatever it is, `path` raises it
                error = failure
            with self._changed:
                self._coming.discard(shard)
                if held:
                    self._held[shard] = held
                if error:
                    self._failed[shard] = error
                self._changed.notify_all()

    def _wait_for(self, shard: int) -> Held:
        """A shard that is needed now, wherever it takes room from."""
        self._let_go = time.monotonic()
        until = self._let_go + self._patience
        while True:
            try:
                return self._get(shard)
            except BusyError:
                # Its own process ends it, or gives up and frees the lock.
                time.sleep(_POLL_SECONDS)
            except FullError:
                self._drop_what_came_ahead()
                with self._changed:
                    own = sum(self._shards[used].size for used in self._used) + self._shards[shard].size
                    number = len(self._used) + 1
                # Its own training lets go some, unless its steps use more together.
                if own > self._cache.limit and time.monotonic() > self._let_go + self._patience:
                    raise UserError(
                        f"{CACHE_GB}: {self._cache.limit / 1e9:.3g} GB do not hold the {number} shards that are needed "
                        f"together, {own / 1e9:.3g} GB. Raise it."
                    ) from None
                if own <= self._cache.limit and time.monotonic() > until:
                    raise UserError(
                        f"{self._cache.folder}: other processes use all of its {self._cache.limit / 1e9:.3g} GB "
                        f"({CACHE_GB}), for {self._patience:.0f} s now. Raise it, or set {CACHE} to another folder."
                    ) from None
                time.sleep(_POLL_SECONDS)

    def _drop_what_came_ahead(self) -> None:
        """Of this split and the others."""
        for split in list(_splits):
            with split._changed:
                for shard in [shard for shard in split._held if shard not in split._used]:
                    split._held.pop(shard).release()

    def _get(self, number: int) -> Held:
        """A shard from the folder or the storage. Raises BusyError and FullError."""
        shard = self._shards[number]
        while True:
            if held := self._cache.find(shard):
                return held
            room = self._cache.take_room(shard)
            try:
                # Another process may have been faster.
                if held := self._cache.find(shard):
                    return held
                for is_last in (False, True):
                    self._storage.get(shard.name, room.path)
                    reason = why_damaged(room.path, shard)
                    if not reason:
                        break
                    if is_last:
                        raise UserError(
                            f"prepared/{shard.name}: {self._storage.name} delivers another file than prepare wrote, "
                            f"twice ({reason}). Somebody or something has changed the storage: remove it there, and "
                            "have whoever ran prepare `dvc push`."
                        )
                self._cache.keep(room, shard)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(
                    f"{self._cache.folder}: {error.strerror}, before its {self._cache.limit / 1e9:.3g} GB "
                    f"({CACHE_GB}) were used. Lower {CACHE_GB}, or set {CACHE} to a folder on another disk."
                ) from None
            finally:
                self._cache.give_back(room)


_opened: dict[str, tuple[Storage, ShardCache, float]] = {}


def open_streamed(shards: Sequence[Shard]) -> StreamedShards:
    """The shards of a split as the environment says. UserError where it does not say it well, the folder may not hold
    what training needs at once, or the storage has no such version of prepared/."""
    name = os.environ[FROM]
    if name not in _opened:
        patience = _number(WAIT, _DEFAULT_WAIT_SECONDS)
        # DVC's main checkout, in workspaces of experiments, too.
        folder = Path(os.environ.get(CACHE) or Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/shards"))
        folder.mkdir(parents=True, exist_ok=True)
        limit = _number(CACHE_GB, shutil.disk_usage(folder).free / 2e9)
        _opened[name] = (Storage(name, patience), ShardCache(folder, int(limit * 1e9)), patience)
        print(f"  shards from {shown(name)}, by way of {folder} (at most {limit:.3g} GB)", flush=True)
    storage, cache, patience = _opened[name]
    # A batch between two windows has images of both; said now, not when the first comes to wait for room.
    largest = sorted((shard.size for shard in shards), reverse=True)[: 2 * WINDOW]
    if sum(largest) > cache.limit:
        raise UserError(
            f"{CACHE_GB}: {cache.limit / 1e9:.3g} GB do not hold {len(largest)} shards, which training needs at once: "
            f"{sum(largest) / 1e9:.3g} GB. Raise it, or set {CACHE} to a folder on a larger disk."
        )
    return StreamedShards(shards, storage, cache, patience)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise UserError(f"{variable}: expected a number above 0, got {text!r}.")
    return number
