"""Rows of host memory that threads fill while those before are in use."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

# How many selections are under way beside the one in use: while the last rows of one are made, idle threads begin the
# next.
_AHEAD = 2
# Beyond it, threads wait for each other, as each holds Python's lock between two images.
_MOST_THREADS = 16

Selection = TypeVar("Selection")
# Rows, uint8 n×H×W×C, and what fills them.
Started = tuple[torch.Tensor, list["Future[None]"]]


def in_order(selections: Iterable[Selection], start: Callable[[Selection], Started]) -> Iterator[torch.Tensor]:
    """The rows of each selection, filled; `start` begins to fill them, ahead of use. Raises what that raises."""
    under_way: deque[Started] = deque()
    for selection in selections:
        under_way.append(start(selection))
        if len(under_way) > _AHEAD:
            yield _filled(under_way.popleft())
    while under_way:
        yield _filled(under_way.popleft())


def gathered(
    images: torch.Tensor, selections: Iterable[torch.Tensor | slice], *, pinned: bool
) -> Iterator[torch.Tensor]:
    """The images of each selection, a slice or int64 n, out of an array in host memory, such as a mapped file."""
    with threads() as pool:

        def start(selection: torch.Tensor | slice) -> Started:
            indices = indices_of(selection, len(images))
            rows = torch.empty((len(indices), *images.shape[1:]), dtype=images.dtype, pin_memory=pinned)
            parts = zip(*(all_of.tensor_split(number_of_threads()) for all_of in (indices, rows)), strict=True)
            return rows, [pool.submit(_gather, images, *part) for part in parts]

        yield from in_order(selections, start)


def indices_of(selection: torch.Tensor | slice, total: int) -> torch.Tensor:
    """The indices that a selection, on the CPU, names of `total` images; int64 n. IndexError where there is none."""
    if isinstance(selection, slice):
        return torch.arange(*selection.indices(total))
    if len(selection) and not 0 <= int(selection.min()) <= int(selection.max()) < total:
        raise IndexError(f"images {int(selection.min())} to {int(selection.max())} of {total}")
    return selection


def number_of_threads() -> int:
    """For this process, of the cores that it shares with the others that train on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


@contextmanager
def threads(number: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block; what they have not begun is dropped."""
    pool = ThreadPoolExecutor(number or number_of_threads())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _gather(images: torch.Tensor, indices: torch.Tensor, rows: torch.Tensor) -> None:
    # On this thread alone: PyTorch's would start threads of its own. Without "clip", NumPy would copy twice.
    np.take(images.numpy(), indices.numpy(), 0, out=rows.numpy(), mode="clip")


def _filled(started: Started) -> torch.Tensor:
    rows, filling = started
    for future in filling:
        future.result()
    return rows
