"""Encoded pictures → the squares that a model sees, by a bounded number of processes (worker.py)."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from serve.messages import REPLY, REQUEST
from serve.refused import Undecodable
from serve.settings import Limits
from stages.onnx.description import Description

_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60


class Decoded(NamedTuple):
    """The square that the model sees, uint8 S×S×C; width and height of the picture, as people see it; and what was done
    to it that a person should know."""

    row: np.ndarray
    width: int
    height: int
    note: str


class _Job(NamedTuple):
    data: bytes
    model: int
    done: asyncio.Future[Decoded]
    is_second_try: bool = False


class Decoders:
    """A queue, and processes that each take one picture after the other from it."""

    def __init__(self, models: list[Description], count: int, limits: Limits) -> None:
        """For pictures of these models, by `count` processes."""
        self._models = models
        self._seconds = limits.decode_seconds
        recipes = [{key: getattr(model, key) for key in ("stored_size", "resize", "channels")} for model in models]
        self._setup = json.dumps({"pixels": limits.pixels, "body_bytes": limits.body_bytes, "recipes": recipes})
        self._count = count
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        # Of processes, how many are ready, and how many had to be started again.
        self.alive = 0
        self.restarts = 0

    async def start(self) -> None:
        """Start all processes, and wait until they are ready. OSError and RuntimeError where they cannot."""
        processes = await asyncio.gather(*(self._start_one() for _ in range(self._count)))
        self._tasks = [asyncio.create_task(self._work(process)) for process in processes]

    async def stop(self) -> None:
        """End all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def decode(self, data: bytes, model: int) -> Decoded:
        """Of a picture, what a model sees, by its number. Raises Undecodable."""
        done: asyncio.Future[Decoded] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Job(data, model, done))
        return await done

    async def _start_one(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serve.worker", self._setup),
            stdin=PIPE,
            stdout=PIPE,
            cwd=_ROOT,
            # One thread for each process: pictures are decoded side by side.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _reply(process)
        except (asyncio.IncompleteReadError, TimeoutError):
            await _end(process)
            raise RuntimeError("a process that decodes pictures does not start; its message is above") from None
        except BaseException:
            await _end(process)
            raise
        self.alive += 1
        return process

    async def _work(self, process: Process | None) -> None:
        """Decode what is in the queue, with one process, and with another one when that has ended or hangs."""
        try:
            while True:
                job = await self._queue.get()
                if job.done.done():
                    continue  # nobody waits for it any more
                if process is not None and process.returncode is not None:
                    await self._replace(process)  # ended without a picture, as the kernel does where memory is short
                    process = None
                if process is None:
                    process = await self._start_again()
                try:
                    async with asyncio.timeout(self._seconds):
                        decoded = await self._exchange(process, job)
                    _settle(job, decoded)
                except Undecodable as reason:
                    _settle(job, reason)
                except TimeoutError:
                    await self._replace(process)
                    process = None
                    _settle(job, Undecodable(f"not decoded within {self._seconds:g} s"))
                except Exception as error:  # uvloop's are many, where a process has gone
                    print(f"serve: decoder: {type(error).__name__}: {error}; started again", file=sys.stderr)
                    await self._replace(process)
                    process = None
                    if job.is_second_try:
                        _settle(job, Undecodable("it ends the program that decodes it"))
                    else:
                        # It may not have been this picture.
                        self._queue.put_nowait(job._replace(is_second_try=True))
        finally:
            if process is not None:
                await _end(process)

    async def _start_again(self) -> Process:
        """A process, however long it takes until the system lets one start."""
        pause = 0.1
        while True:
            try:
                return await self._start_one()
            except (OSError, RuntimeError) as error:
                print(f"serve: decoder: {error}; trying again", file=sys.stderr)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)

    async def _replace(self, process: Process) -> None:
        await _end(process)
        self.alive -= 1
        self.restarts += 1

    async def _exchange(self, process: Process, job: _Job) -> Decoded:
        assert process.stdin
        process.stdin.write(REQUEST.pack(len(job.data), job.model) + job.data)
        await process.stdin.drain()
        is_picture, width, height, text, row = await _reply(process)
        if not is_picture:
            raise Undecodable(text)
        model = self._models[job.model]
        side = model.stored_size
        return Decoded(np.frombuffer(row, np.uint8).reshape(side, side, model.channels), width, height, text)


async def _reply(process: Process) -> tuple[bool, int, int, str, bytes]:
    assert process.stdout
    is_picture, width, height, note_size, row_size = REPLY.unpack(await process.stdout.readexactly(REPLY.size))
    rest = await process.stdout.readexactly(note_size + row_size)
    return is_picture, width, height, rest[:note_size].decode(), rest[note_size:]


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    # A pipe that is open would keep its buffers.
    if process.stdin:
        process.stdin.close()
    await process.wait()


def _settle(job: _Job, result: Decoded | Undecodable) -> None:
    if job.done.done():
        return
    if isinstance(result, Undecodable):
        job.done.set_exception(result)
    else:
        job.done.set_result(result)
