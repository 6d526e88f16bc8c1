"""Images that lie in shards, decoded by threads ahead of use.

Shards are opened in the order in which they are first needed, and let go after their last use; their bytes stay in the
system's cache of files. So memory holds the batches under way alone, and a pass over an order in windows, or over all
images as they stand, reads each shard once and in sequence.
"""

import itertools
import mmap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from stages.common import shards
from stages.common.errors import UserError
from stages.model.ahead import Started, in_order, indices_of, threads
from stages.model.sources import WINDOW, ShardSource

# Images that a thread decodes at a time.
_TASK = 16


class ShardedImages:
    """The images of a split, uint8 N×side×side×C once they are decoded."""

    def __init__(self, places: np.ndarray, source: ShardSource, side: int, channels: int, file: Path) -> None:
        """`places`: of the images, in whole shards, one after the other (shards.bytes_of_shards), as `file` has
        them."""
        self.shape = (len(places), side, side, channels)
        self._places = places
        self._source = source
        self._file = file
        numbers = places["shard"].astype(np.int64)
        # Where each shard's images begin, and where the last one's end.
        self.begins = torch.from_numpy(np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), len(places)))
        self._parsed: set[int] = set()

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, selections: Iterable[torch.Tensor | slice], *, pinned: bool = False) -> Iterator[torch.Tensor]:
        """The images of each selection, a slice or indices on the CPU; uint8 n×H×W×C there. UserError where a shard
        cannot be had, or is not as prepare wrote it."""
        wanted = [indices_of(selection, len(self)) for selection in selections]
        needed = [self._shards_of(indices) for indices in wanted]
        with threads() as pool, threads(1) as opener, closing(_Opened(self, needed, opener)) as opened:

            def start(step: int) -> Started:
                opened.begin(step)
                rows = torch.empty((len(wanted[step]), *self.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
                return rows, [
                    pool.submit(self._decode, opened.shards, wanted[step][first : first + _TASK].numpy(), part.numpy())
                    for first, part in zip(range(0, len(rows), _TASK), rows.split(_TASK), strict=False)
                ]

            for step, rows in enumerate(in_order(range(len(wanted)), start)):
                opened.end(step)
                yield rows

    def open(self, shard: int) -> memoryview:
        """The content of a shard's file, mapped. UserError where it is not what its source and the places say."""
        path = self._source.path(shard)
        with path.open("rb") as stream:
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        if shard not in self._parsed:
            self._require_places(shard, path, content)
            self._parsed.add(shard)
        return content

    @property
    def source(self) -> ShardSource:
        """Where the shards come from."""
        return self._source

    def _shards_of(self, indices: torch.Tensor) -> list[int]:
        numbers: list[int] = np.unique(self._places["shard"][indices.numpy()]).tolist()
        return numbers

    def _require_places(self, shard: int, path: Path, content: memoryview) -> None:
        begin, end = self.begins[shard : shard + 2].tolist()
        places = self._places[begin:end]
        try:
            offsets, sizes = shards.parse(content)
        except shards.ShardError as error:
            raise UserError(f"{path}: {error}. `dvc repro prepare` makes it.") from None
        if not (np.array_equal(offsets, places["offset"]) and np.array_equal(sizes, places["size"])):
            raise UserError(
                f"{path}: its pictures lie elsewhere than {self._file} says. `dvc repro prepare` makes both."
            )

    def _decode(self, opened: "dict[int, Future[memoryview]]", indices: np.ndarray, rows: np.ndarray) -> None:
        for (shard, offset, size), index, row in zip(
            self._places[indices].tolist(), indices.tolist(), rows, strict=True
        ):
            content = opened[shard].result()
            try:
                shards.decode(content[offset : offset + size], self.shape[3], row)
            except shards.ShardError as error:
                raise UserError(
                    f"{self._source.path(shard)}: image {index} of {self._file}: {error}. `dvc repro prepare` makes it."
                ) from None


class _Opened:
    """The shards that a pass has open: announced and opened in the order of first use, let go after the last."""

    def __init__(self, images: ShardedImages, needed: Sequence[Sequence[int]], opener: ThreadPoolExecutor) -> None:
        """`needed`: the shards that each step of the pass uses; `opener`: a single thread."""
        self.shards: dict[int, Future[memoryview]] = {}
        self._announced: set[int] = set()
        self._images = images
        self._needed = needed
        self._opener = opener
        self._last = {shard: step for step, some in enumerate(needed) for shard in some}
        self._coming = iter(dict.fromkeys(shard for some in needed for shard in some))

    def begin(self, step: int) -> None:
        """Have open what a step uses, and announce what comes after it, up to two windows in all."""
        needed = self._needed[step]
        missing = sum(shard not in self._announced for shard in needed)
        some = list(itertools.islice(self._coming, max(missing, 2 * WINDOW - len(self._announced))))
        if some:
            self._images.source.fetch(some)
            self._announced.update(some)
        # No earlier: the source may have room for one window alone.
        for shard in needed:
            if shard not in self.shards:
                self.shards[shard] = self._opener.submit(self._images.open, shard)

    def end(self, step: int) -> None:
        """Let go what is of no more use after a step."""
        self._release([shard for shard in self._needed[step] if self._last[shard] == step])

    def close(self) -> None:
        """Let go all that is left where a pass ends before its end."""
        self._release(list(self._announced))

    def _release(self, some: Iterable[int]) -> None:
        for shard in some:
            self.shards.pop(shard, None)
            self._announced.remove(shard)
            self._images.source.release(shard)
