"""Resuming: a run that was killed goes on where it last saved, to the very bytes of one that was not.

A checkpoint belongs to one experiment, named by the fingerprint of all that decides its result, and lies outside DVC's
outputs, which DVC deletes before a run: in $DVC_ROOT/.dvc/tmp/checkpoints/<fingerprint>/, where DVC_ROOT is the main
checkout in `dvc exp run --temp` and in the queue's workers, too. CHECKPOINT_DIR, where it is set, may hold anything
else, so there it is $CHECKPOINT_DIR/dvc-pytorch-<uid>/<fingerprint>/. Only what proves to be of this program is
removed: files of its names that begin with its mark, in a folder of this user whose `lock` does.

00000007.safetensors        the seventh checkpoint: tensors, and as JSON the rest and which of the files below it needs
00000005.best.safetensors   the weights of the best epoch, from the fifth on, until another epoch is the best
00000001.curves.jsonl       a row per epoch, to which each checkpoint of one process adds

Files are written by a thread, from a copy of the tensors, while training goes on. PyTorch's own
(torch.distributed.checkpoint.async_save) has pickles in its metadata.
"""

import hashlib
import json
import os
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import IO, Any, NamedTuple

import torch
from safetensors import SafetensorError

from stages.common.dependencies import ROOT, project_modules
from stages.common.errors import UserError
from stages.common.files import replacing
from stages.common.locks import try_lock, why_no_locks
from stages.model import shard_storage
from stages.train.tensor_files import Snapshot, read_document, read_tensors, write_tensors

# What a process that saved and stopped because it was told to exits with: EX_TEMPFAIL of sysexits.h, "try again".
STOPPED = 75
# Leftovers of experiments that nobody resumed are removed after so many days.
_KEPT_DAYS = 14
_KEPT = 2
# What every file of a store begins with, or has in the header of its tensors.
_MARK = "checkpoint of stages.train"
_NAME = re.compile(r"[0-9a-f]{16}")
_CHECKPOINT = re.compile(r"(\d{8})\.safetensors")
# What several checkpoints may need.
_SHARED = re.compile(r"(\d{8})\.(?:best\.safetensors|curves\.jsonl)")
_UNFINISHED = re.compile(r"\.\d{8}\.(?:best\.safetensors|curves\.jsonl|safetensors)\.\w+\.tmp")
# A checkpoint waits until training has gone on for so many times what the one before took from it: 2 % at most.
_TIMES = 50
# What reading a damaged file may raise.
_DAMAGE = (SafetensorError, FileNotFoundError, ValueError, KeyError, TypeError)


class Checkpoint(NamedTuple):
    """Everything that decides how training goes on: tensors by name, the weights of the best epoch and its number, a
    row per epoch, and the rest as JSON. While one is saved, `tensors` may change in place and `curves` grow."""

    tensors: Mapping[str, torch.Tensor]
    state: dict[str, Any]
    best: Mapping[str, torch.Tensor] = MappingProxyType({})
    best_epoch: int = 0
    curves: Sequence[dict[str, float]] = ()


class _Curves:
    """The file of this process's curves as it stands: its number, and how much of it is written."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows = 0
        self.size = 0
        self.digest = hashlib.sha256()

    @property
    def entry(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {"number": self.number, "size": self.size, "sha256": self.digest.hexdigest()}


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
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None
        self._best: tuple[int, dict[str, Any]] | None = None
        self._curves: _Curves | None = None

    @property
    def age(self) -> float:
        """Seconds since training went on after the last checkpoint, or else since the start."""
        return time.monotonic() - self._saved

    @property
    def due(self) -> bool:
        """Whether another checkpoint would leave saving at 2 % of the time or less, and the last one is written."""
        return not (self._writer and self._writer.is_alive()) and self.age >= _TIMES * self._cost

    @property
    def cost(self) -> float:
        """Seconds that the last checkpoint took from training: those in which it stood still, and those that writing
        took of a CPU, where training computes on one."""
        return self._cost

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
            try:
                yield
            finally:
                # However training ended, what it has begun to save is saved, under its lock.
                self._join()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and drop all but it and the one before, before this returns."""
        self.wait()
        self._write(checkpoint, len(checkpoint.curves))
        self._saved = time.monotonic()

    def save_beside(self, checkpoint: Checkpoint) -> None:
        """The same, in a thread, while training goes on. What goes wrong there is raised by `check`."""
        self.wait()
        started = time.monotonic()
        snapshot = Snapshot(checkpoint.tensors)
        rows = len(checkpoint.curves)
        self._saved = time.monotonic()
        stopped = self._saved - started

        def write() -> None:
            try:
                snapshot.wait()
                copied = time.monotonic() - started
                self._write(checkpoint._replace(tensors=snapshot.tensors), rows)
                self._cost = copied if snapshot.on_gpu else stopped + time.thread_time()
            except Exception as error:  # raised in the thread that trains
                self._error = error

        self._writer = threading.Thread(target=write, name="checkpoint")
        self._writer.start()

    def check(self) -> None:
        """Raise what kept the last checkpoint from being written, once; the one before is still there."""
        if error := self._error:
            self._error = None
            raise error

    def wait(self) -> None:
        """Until the last checkpoint is written; raises as `check` does."""
        self._join()
        self.check()

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none. Says so of each that is damaged."""
        for number in sorted(self._numbers(_CHECKPOINT), reverse=True):
            path = self._path(number)
            try:
                tensors, document, _ = read_tensors(_regular(path))
                best, epoch = self._read_best(document["best"]) if document["best"] else ({}, 0)
                curves = self._read_curves(document["curves"]) if document["curves"] else []
                self._best = (epoch, document["best"]) if document["best"] else None
                return Checkpoint(tensors, document["state"], best, epoch, curves)
            except _DAMAGE as error:
                print(f"  checkpoint {path}: refused, damaged ({error})", flush=True)
        return None

    def clear(self) -> None:
        """Remove the checkpoints of a run that is finished, while it is `locked`."""
        self._join()
        _remove(self.folder)

    def _join(self) -> None:
        if self._writer:
            self._writer.join()
            self._writer = None

    def _write(self, checkpoint: Checkpoint, rows: int) -> None:
        """Write all files of a checkpoint, itself last; then drop what no checkpoint that is kept needs."""
        number = max((*self._numbers(_CHECKPOINT), *self._numbers(_SHARED)), default=0) + 1
        document = {
            "best": self._write_best(checkpoint, number) if checkpoint.best else None,
            "curves": self._write_curves(checkpoint.curves, rows, number) if rows else None,
            "state": checkpoint.state,
        }
        with replacing(self._path(number)) as temporary:
            write_tensors(temporary, checkpoint.tensors, _MARK, document)
        self._drop()

    def _write_best(self, checkpoint: Checkpoint, number: int) -> dict[str, Any]:
        """The weights of the best epoch, unless they are there already; what a checkpoint says of them."""
        epoch = checkpoint.best_epoch
        if self._best and self._best[0] == epoch and self._best_path(self._best[1]["number"]).exists():
            return self._best[1]
        with replacing(self._best_path(number)) as temporary:
            digest = write_tensors(temporary, checkpoint.best, _MARK, {"epoch": epoch})
        self._best = epoch, {"number": number, "sha256": digest}
        return self._best[1]

    def _write_curves(self, curves: Sequence[dict[str, float]], rows: int, number: int) -> dict[str, Any]:
        """So many rows, without those that are there already, in a file of this process alone; what a checkpoint says
        of them."""
        written = self._curves
        if not written or not self._curves_path(written.number).exists():
            written = _Curves(number)
            with replacing(self._curves_path(number)) as temporary:
                _append(temporary, written, json.dumps({"format": _MARK}) + "\n")
            self._curves = written
        new = "".join(json.dumps(row) + "\n" for row in curves[written.rows : rows])
        _append(self._curves_path(written.number), written, new)
        written.rows = rows
        return written.entry

    def _read_best(self, entry: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], int]:
        tensors, document, digest = read_tensors(_regular(self._best_path(entry["number"])))
        if digest != entry["sha256"]:
            raise ValueError("the best epoch's weights are not those that were saved")
        return tensors, document["epoch"]

    def _read_curves(self, entry: Mapping[str, Any]) -> list[dict[str, float]]:
        with _regular(self._curves_path(entry["number"])).open("rb") as stream:
            content = stream.read(entry["size"])
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError("the curves are not those that were saved")
        return [json.loads(line) for line in content.splitlines()[1:]]

    def _drop(self) -> None:
        """Remove all but the last checkpoints and what they need."""
        numbers = sorted(self._numbers(_CHECKPOINT))
        needed: set[Path] = set()
        for number in numbers[-_KEPT:]:
            with suppress(*_DAMAGE):  # nobody can go on from it
                document = read_document(_regular(self._path(number)))
                needed |= {self._best_path(entry["number"]) for entry in [document["best"]] if entry}
                needed |= {self._curves_path(entry["number"]) for entry in [document["curves"]] if entry}
        paths = [self._path(number) for number in numbers[:-_KEPT]]
        paths += [path for path in self.folder.iterdir() if _SHARED.fullmatch(path.name) and path not in needed]
        for path in paths:
            if _is_ours(path):
                path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}.safetensors"

    def _best_path(self, number: int) -> Path:
        return self.folder / f"{number:08}.best.safetensors"

    def _curves_path(self, number: int) -> Path:
        return self.folder / f"{number:08}.curves.jsonl"

    def _numbers(self, name: re.Pattern[str]) -> list[int]:
        paths = self.folder.iterdir() if self.folder.is_dir() else []
        return [int(match[1]) for path in paths if (match := name.fullmatch(path.name))]


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
        shard_storage.GIVE_UP.clear()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        # A training that waits for a storage hears of it.
        shard_storage.GIVE_UP.set()


def _append(path: Path, curves: _Curves, text: str) -> None:
    """Add to a file that is there, and to its digest. Raises OSError, which names the file."""
    content = text.encode()
    try:
        with path.open("r+b") as stream:
            stream.seek(curves.size)
            stream.write(content)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    curves.size += len(content)
    curves.digest.update(content)


def _regular(path: Path) -> Path:
    """`path`; ValueError where it is not a file, such as a link."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name} is not a file")
    return path


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
    if path.name != "lock" and not any(name.fullmatch(path.name) for name in (_CHECKPOINT, _SHARED, _UNFINISHED)):
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
