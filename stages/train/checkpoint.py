"""Resuming: a run that was killed goes on where it last saved, to the very bytes of one that was not.

A checkpoint belongs to one experiment, named by the fingerprint of all that decides its result, and lies outside DVC's
outputs, which DVC deletes before a run: in ${CHECKPOINT_DIR:-$DVC_ROOT/.dvc/tmp/checkpoints}/<fingerprint>/. DVC_ROOT
is the main checkout in `dvc exp run --temp` and in the queue's workers, too.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stages.common.errors import UserError
from stages.common.files import replacing

# What a process that saved and stopped because it was told to exits with: EX_TEMPFAIL of sysexits.h, "try again".
STOPPED = 75
# Leftovers of experiments that nobody resumed are removed after so many days.
_KEPT_DAYS = 14
_KEPT = 2
# Seconds that nobody minds.
_CHEAP = 0.1


class Checkpoint(NamedTuple):
    """Everything that decides how training goes on: tensors by name, and the rest as JSON."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """The name of an experiment: a hash of `inputs`, which is JSON, and of all modules of `stages` in use."""
    # By the module's name: several rooms have a params.py and a __main__.py.
    code = {
        name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("stages", "__main__") and (file := getattr(module, "__file__", None))
    }
    return hashlib.sha256(json.dumps({"inputs": inputs, "code": code}, sort_keys=True).encode()).hexdigest()[:16]


class Store:
    """The checkpoints of one experiment."""

    def __init__(self, name: str) -> None:
        root = os.environ.get("CHECKPOINT_DIR") or Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/checkpoints")
        self.folder = Path(root, name)
        self._saved = time.monotonic()
        self._cost = 0.0

    @property
    def age(self) -> float:
        """Seconds since the last checkpoint, or else since the start."""
        return time.monotonic() - self._saved

    @property
    def due(self) -> bool:
        """Whether an epoch's end is worth a checkpoint: not where that would take over a twentieth of the time."""
        return self._cost < _CHEAP or self.age > 20 * self._cost

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the same experiment. UserError where one does; the system frees the lock
        of a process that was killed."""
        _remove_leftovers(self.folder.parent)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                raise UserError(
                    f"train: {stream.read().strip() or 'another process'} is training this very experiment. "
                    "Wait for its result, or stop it; then run again."
                ) from None
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}")
            stream.flush()
            yield

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint whole or not at all, and drop all but it and the one before."""
        started = time.monotonic()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        metadata = {"state": json.dumps(checkpoint.state), "sha256": _digest(tensors, checkpoint.state)}
        numbers = self._numbers()
        with replacing(self._path(max(numbers, default=0) + 1)) as temporary:
            temporary.write_bytes(save(tensors, metadata))
        for number in sorted(numbers)[: -(_KEPT - 1)]:
            self._path(number).unlink()
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none. Says so of each that is damaged."""
        for number in sorted(self._numbers(), reverse=True):
            path = self._path(number)
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata()
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                state = json.loads(metadata["state"])
                if _digest(tensors, state) != metadata["sha256"]:
                    raise ValueError("its content is not what was saved")
                return Checkpoint(tensors, state)
            except (SafetensorError, ValueError, KeyError, TypeError) as error:
                print(f"  checkpoint {path}: refused, damaged ({error})", flush=True)
        return None

    def clear(self) -> None:
        """Remove the checkpoints of a run that is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}.safetensors"

    def _numbers(self) -> list[int]:
        return [int(path.stem) for path in self.folder.glob("[0-9]*.safetensors")]


class StopSignals:
    """While entered, SIGTERM, SIGINT and SIGUSR1 set `received` instead of ending the process: Slurm's and Kubernetes'
    way to say that the machine is needed, and Ctrl-C."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name


def _digest(tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _remove_leftovers(root: Path) -> None:
    for folder in root.glob("*/"):
        newest = max((path.stat().st_mtime for path in folder.iterdir()), default=folder.stat().st_mtime)
        if newest < time.time() - _KEPT_DAYS * 86400:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"  checkpoints {folder}: removed, {_KEPT_DAYS} days old", flush=True)
