"""Work on many pictures, on all cores: results in the order of the work, memory that does not grow with it."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stages.common.errors import UserError

# Below this, starting processes takes longer than the work.
_ALONE_BELOW_BYTES = 8 * 2**20
# Enough work that passing it to another process costs little beside it; little enough that all processes have some.
_CHUNK_IMAGES = 256
_CHUNK_BYTES = 4 * 2**20

# linux/prctl.h.
_PR_SET_PDEATHSIG = 1

_Chunk = TypeVar("_Chunk")
_Result = TypeVar("_Result")
_Setting = TypeVar("_Setting")


def processes_for(size: int) -> int:
    """How many processes to read so many bytes of pictures: one for each core, or this one alone."""
    return 1 if size < _ALONE_BELOW_BYTES else cores()


def images_of_a_chunk(images: int, size: int) -> int:
    """How many of so many pictures, of so many bytes, one process is given at a time."""
    mean = max(1, size // max(1, images))
    return max(8, min(_CHUNK_IMAGES, _CHUNK_BYTES // mean))


def cores() -> int:
    """Cores that this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def results(
    work: Callable[[_Chunk], _Result],
    chunks: Iterator[_Chunk],
    start: Callable[[_Setting], None],
    setting: _Setting,
    processes: int,
    command: str,
) -> Iterator[_Result]:
    """What `work` makes of each chunk, in their order; at most a few chunks are under way. `start` is called first in
    each process. UserError, in the name of `command`, where one is killed."""
    if processes == 1:
        start(setting)
        yield from map(work, chunks)
        return
    # Forked processes have all modules imported already. macOS does not bear a fork after its libraries have started.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(processes, context, _start_process, (start, setting, os.getpid())) as pool:
        under_way: deque[Future[_Result]] = deque()
        try:
            for chunk in chunks:
                under_way.append(pool.submit(work, chunk))
                if len(under_way) > 4 * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"{command}: a process of several was killed, as the system does when memory runs out. "
                "Free memory and run again."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_process(start: Callable[[_Setting], None], setting: _Setting, first: int) -> None:
    # Ctrl-C reaches the whole group; the first process ends the others, without a traceback from each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Should the first one be killed, it cannot: they would wait for work for ever, and keep locks.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != first:
            os._exit(1)
    start(setting)
