"""What waits for the network goes through it together: in one batch all that is there, without waiting for more."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np


class Computed(NamedTuple):
    """Of one image: the index of each class from the most probable on, and the probabilities."""

    order: np.ndarray
    probabilities: np.ndarray


class _Row(NamedTuple):
    pixels: np.ndarray
    done: asyncio.Future[Computed]


class Batcher:
    """A queue of images for one network. `compute` makes probabilities, N×classes, of uint8 images, N×S×S×C; it runs in
    a thread of its own, and `seen` is told how many images each batch has."""

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray], most: int, seen: Callable[[int], object]) -> None:
        self._compute = compute
        self._most = most
        self._seen = seen
        self._queue: asyncio.Queue[_Row] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to compute."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End; what is in the queue is not computed."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._queue.qsize()

    async def computed(self, pixels: np.ndarray) -> Computed:
        """Of one image, uint8 S×S×C. Raises what `compute` raised of its batch."""
        done: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Row(pixels, done))
        return await done

    def _ordered(self, batch: np.ndarray) -> list[Computed]:
        probabilities = self._compute(batch)
        # In this thread: NumPy gives up the interpreter while it sorts, and the loop would wait to get it back.
        return list(map(Computed, np.argsort(-probabilities, axis=1, kind="stable"), probabilities))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            rows = [await self._queue.get()]
            while len(rows) < self._most and not self._queue.empty():
                rows.append(self._queue.get_nowait())
            # Who waited too long, or has gone, needs no answer.
            rows = [row for row in rows if not row.done.done()]
            if not rows:
                continue
            batch = np.stack([row.pixels for row in rows])
            self._seen(len(rows))
            try:
                answers = await loop.run_in_executor(self._thread, self._ordered, batch)
            except Exception as error:  # whatever it is, it ends the answers of this batch, and not the service
                for row in rows:
                    if not row.done.done():
                        row.done.set_exception(error)
                continue
            for row, answer in zip(rows, answers, strict=True):
                if not row.done.done():
                    row.done.set_result(answer)
