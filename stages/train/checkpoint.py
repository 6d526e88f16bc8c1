"""Resuming: a run that was killed goes on where it last saved, to the very bytes of one that was not.

A checkpoint belongs to one experiment, named by the fingerprint of all that decides its result, and lies outside DVC's
outputs, which DVC deletes before a run: in $DVC_ROOT/.dvc/tmp/checkpoints/<fingerprint>/, where DVC_ROOT is the main
checkout in `dvc exp run --temp` and in the queue's workers, too. CHECKPOINT_DIR, where it is set, may hold anything
else, so there it is $CHECKPOINT_DIR/dvc-pytorch-<uid>/<fingerprint>/. Only what proves to be of this program is
removed: files of its names that begin with its mark, in a folder of this user whose `lock` does.
"""

import hashlib
import json
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stages.common.dependencies import ROOT, project_modules
from stages.common.errors import UserError
from stages.common.files import replacing
from stages.common.locks import try_lock, why_no_locks

# What a process that saved and stopped because it was told to exits with: EX_TEMPFAIL of sysexits.h, "try again".
STOPPED = 75
# Leftovers of experiments that nobody resumed are removed after so many days.
_KEPT_DAYS = 14
_KEPT = 2
# What every file of a store begins with, or has in the header of its tensors.
_MARK = "checkpoint of stages.train"
_NAME = re.compile(r"[0-9a-f]{16}")
_CHECKPOINT = re.compile(r"(\d{8})\.safetensors")
_UNFINISHED = re.compile(r"\.\d{8}\.safetensors\.\w+\.tmp")
# Seconds that nobody minds.
_CHEAP = 0.1


class Checkpoint(NamedTuple):
    """Everything that decides how training goes on: tensors by name, and the rest as JSON."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """The name of an experiment: a hash of `inputs`, which is JSON, and of all modules of the project in use."""
    # By the module's name: several rooms have a params.py and a __main__.py.
    code = {name: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for name, path in project_modules()}
    return hashlib.sha256(json.dumps({"inputs": inputs, "code": code}, sort_keys=True).encode()).hexdigest()[:16]


class Store:
    """The checkpoints of one experiment."""

    def __init__(self, name: str) -> None:
        if shared := os.environ.get("CHECKPOINT_DIR"):
            root = Path(shared, f"dvc-pytorch-{os.getuid()}")
        else:
            root = Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/checkpoints")
        self.folder = root / name
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
        of a process that was killed. UserError, too, where the store is a link, or somebody else's."""
        _make_own(self.folder.parent)
        _make_own(self.folder)
        if reason := why_no_locks(self.folder):
            raise UserError(
                f"train: {reason}, so nothing keeps two processes from training the same experiment. Set "
                "CHECKPOINT_DIR to a folder on a local disk."
            )
        with _open_lock(self.folder, os.O_CREAT) as stream:
            holder = stream.read()
            if holder and not holder.startswith(_MARK):
                raise UserError(f"{stream.name}: not written by this program. Move it away, then run again.")
            if not _take(stream):
                raise UserError(
                    f"train: {holder.removeprefix(_MARK).strip(': ') or 'another process'} is training this very "
                    "experiment. Wait for its result, or stop it; then run again."
                )
            stream.seek(0)
            stream.truncate()
            stream.write(f"{_MARK}: process {os.getpid()} on {socket.gethostname()}")
            stream.flush()
            _remove_leftovers(self.folder.parent)
            yield

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint whole or not at all, and drop all but it and the one before."""
        started = time.monotonic()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        metadata = {
            "format": _MARK,
            "state": json.dumps(checkpoint.state),
            "sha256": _digest(tensors, checkpoint.state),
        }
        numbers = self._numbers()
        with replacing(self._path(max(numbers, default=0) + 1)) as temporary:
            temporary.write_bytes(save(tensors, metadata))
        for number in sorted(numbers)[: -(_KEPT - 1)]:
            if _is_ours(self._path(number)):
                self._path(number).unlink()
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none. Says so of each that is damaged."""
        for number in sorted(self._numbers(), reverse=True):
            path = self._path(number)
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise ValueError("not a file")
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
        """Remove the checkpoints of a run that is finished, while it is `locked`."""
        _remove(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}.safetensors"

    def _numbers(self) -> list[int]:
        paths = self.folder.iterdir() if self.folder.is_dir() else []
        return [int(match[1]) for path in paths if (match := _CHECKPOINT.fullmatch(path.name))]


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


# --- what is ours ----------------------------------------------------------------------------------------------------


def _make_own(folder: Path) -> None:
    """Create a folder for this user alone. UserError where there is a link, or a folder of somebody else."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_own_folder(folder):
        raise UserError(
            f"{folder}: expected a folder of this user for checkpoints, got a link, a file, or a folder of another "
            "user. Move it away, or set CHECKPOINT_DIR to another folder."
        )


def _is_own_folder(folder: Path) -> bool:
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def _is_ours(path: Path) -> bool:
    """Whether a file in a store has the name and the beginning of one that this program writes there."""
    if not (path.name == "lock" or _CHECKPOINT.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)):
        return False
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as stream:
        # The length of the header, then the header, which has the metadata (the format of safetensors).
        start = stream.read(8)
        length = 64 if path.name == "lock" else min(int.from_bytes(start, "little"), 2**20)
        start += stream.read(length)
    # Of what was killed before it wrote, nothing is lost.
    if path.name == "lock":
        return start.startswith(_MARK.encode())
    return _MARK.encode() in start or (not start and _UNFINISHED.fullmatch(path.name) is not None)


def _open_lock(folder: Path, flags: int) -> IO[str]:
    """The lock of a store, whose text says who has it. Raises OSError where it is a link."""

    def open_file(path: str, _: int) -> int:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)

    return open(folder / "lock", "r+", encoding="utf-8", errors="replace", opener=open_file)


def _take(lock: IO[str]) -> bool:
    """Lock it unless another process has it, or has removed it since it was opened."""
    if not try_lock(lock):
        return False
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock.fileno()), os.lstat(lock.name))
    return False


def _remove(folder: Path) -> None:
    """Remove the files of a store that prove to be ours, and the folder where it has no other. Says so of others."""
    others: list[str] = []
    # The lock last: it is what makes the others ours, should this be interrupted.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "lock"):
        if _is_ours(path) and not (path.name == "lock" and others):
            path.unlink()
        elif path.name != "lock":
            others.append(path.name)
    if others:
        print(f"  checkpoints {folder}: left alone, of others: {', '.join(map(repr, sorted(others)))}", flush=True)
    else:
        with suppress(OSError):  # NFS keeps a file that is open, as the lock is, under another name for a while
            folder.rmdir()


def _remove_leftovers(root: Path) -> None:
    """Remove the stores of this user that nobody has written to for days, and that nobody trains."""
    for folder in sorted(root.iterdir()):
        with suppress(FileNotFoundError):  # not a store, or another process has just removed it
            if not (_NAME.fullmatch(folder.name) and _is_own_folder(folder) and _is_ours(folder / "lock")):
                continue
            newest = max(path.lstat().st_mtime for path in folder.iterdir())
            if newest > time.time() - _KEPT_DAYS * 86400:
                continue
            with _open_lock(folder, 0) as lock:
                if _take(lock):
                    _remove(folder)
                    print(f"  checkpoints {folder}: removed, {_KEPT_DAYS} days old", flush=True)
