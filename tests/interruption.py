"""Training runs that are sent a signal at a given step, for tests."""

import shutil
import signal
import subprocess
from pathlib import Path

from tests.project import BIN, ROOT, user_environment

RESULTS = ("models/model.safetensors", "models/model.json", "plots/curves.csv", "metrics/train.json")
TWO_PROCESSES = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2")
# A signal to the process itself, or to the one of this rank, before it has the loss of the given step of its own, or
# while the given checkpoint of its own is being written.
PROGRAM = """
import os, sys, threading
from stages.common import errors
from stages.train import __main__ as train
from stages.train import checkpoint, loop
# At the end of each epoch, however long the last saving took here.
checkpoint.Store.due = True
step, loss = 0, loop.training_loss
at, number, rank, saving = map(int, sys.argv[1:])
del sys.argv[1:]
def counted(*args):
    global step
    step += 1
    if step == at and int(os.environ.get("RANK", "0")) == rank:
        os.kill(os.getpid(), number)
    return loss(*args)
loop.training_loss = counted
saved, write = 0, checkpoint.write_tensors
def partly(path, tensors, *rest):
    global saved
    is_best = ".best." in path.name
    saved += not is_best
    if saved == saving and not is_best:
        assert threading.current_thread() is not threading.main_thread()
        write(path, dict(list(tensors.items())[::2]), *rest)
        os.kill(os.getpid(), number)
    return write(path, tensors, *rest)
checkpoint.write_tensors = partly
errors.run_main(train.main)
"""


def train(
    folder: Path,
    at: int = 0,
    number: int = signal.SIGKILL,
    *,
    rank: int = 0,
    saving: int = 0,
    launcher: tuple[str, ...] = (str(BIN / "python"),),
    **environment: str,
) -> "subprocess.CompletedProcess[str]":
    """Train in `folder`; at step `at`, from 1, of the process of `rank`, it is sent signal `number`, or while the
    checkpoint `saving`, from 1, is being written."""
    program = folder / "interrupted.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [*launcher, program, str(at), str(int(number)), str(rank), str(saving)],
        cwd=folder,
        env=user_environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **environment),
        capture_output=True,
        text=True,
        timeout=120,
    )


def without_results(template: Path, target: Path) -> Path:
    """A copy of a prepared and trained folder, at `target`, in which training has not run."""
    shutil.copytree(template, target)
    for name in RESULTS:
        (target / name).unlink()
    return target


def results(folder: Path) -> list[bytes]:
    """What two runs of one experiment have in common, byte for byte."""
    return [(folder / name).read_bytes() for name in RESULTS]


def stores(folder: Path) -> list[Path]:
    """The experiments that have left checkpoints."""
    return sorted((folder / ".dvc/tmp/checkpoints").glob("*"))
