"""Training that is killed and goes on: `.venv/bin/python -m benchmarks.kills [--runs 20] [--how alone|two|temp|queue]
[--saving]`.

In a throw-away clone of HEAD with a schedule of some seconds, trains once without a kill. Then, as often as asked:
starts the same training, sends it SIGKILL at a random moment after its imports, starts it again, and says whether
weights, curves and metrics are those of the first run, byte for byte. With --saving, the kill waits for the next moment
at which a checkpoint is being written.

alone   python -m stages.train
two     the same by torchrun, two processes; it and they are killed at once
temp    dvc exp run --temp; the training process is killed
queue   dvc exp run --queue and dvc queue start; the training process is killed
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.cifar import environment, write_params
from benchmarks.startup import ROOT

BIN = ROOT / ".venv" / "bin"
RESULTS = ("models/model.safetensors", "models/model.json", "plots/curves.csv", "metrics/train.json")
TORCHRUN = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2")
_PATIENCE = 120  # seconds for DVC to start a training, or to notice its end


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="SIGKILL training, and resume it.")
    parser.add_argument("--runs", type=int, default=20, help="how many runs are killed (default: 20)")
    parser.add_argument(
        "--how", choices=("alone", "two", "temp", "queue"), default="alone", help="what starts training"
    )
    parser.add_argument("--saving", action="store_true", help="kill while a checkpoint is being written")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "project")
        make_project(folder)
        started = time.perf_counter()
        train(folder, "two" if arguments.how == "two" else "alone")
        end = time.perf_counter() - started
        expected = results(folder)
        start = end - json.loads((folder / "metrics/run.json").read_text())["total_seconds"]
        print(f"{arguments.how}: an uninterrupted run starts for {start:.1f} s, and ends after {end:.1f} s", flush=True)
        same = 0
        for number in range(1, arguments.runs + 1):
            after = moments.uniform(start, end)
            while not train(folder, arguments.how, after, saving=arguments.saving):
                after = moments.uniform(start, end)  # it had ended
            partial = "in the middle of a file, " if unfinished(folder) else ""
            train(folder, arguments.how)
            resumed = json.loads((folder / "metrics/run.json").read_text())["resumed"]
            equal = results(folder) == expected
            same += equal
            print(
                f"run {number}: killed after {after:.2f} s, {partial}resumed {resumed}×: "
                f"{'same bytes' if equal else 'OTHERS'}",
                flush=True,
            )
    print(f"{arguments.how}: {same} of {arguments.runs} end in the bytes of the uninterrupted run")
    sys.exit(same != arguments.runs)


def make_project(folder: Path) -> None:
    """A clone with prepared images and a schedule of its own, committed."""
    call(folder.parent, "git", "clone", "--quiet", ROOT, folder)
    (folder / ".venv").symlink_to(BIN.parent)
    call(folder, sys.executable, "-m", "scripts.get_data")
    changes = {"epochs": 25, "crop_padding": 1, "ema_decay": 0.99, "threads": 1}
    write_params(folder, folder / "params.yaml", **changes)
    call(folder, BIN / "dvc", "repro", "--quiet")
    call(folder, "git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "--quiet", "-am", "schedule")


def train(folder: Path, how: str, kill_after: float | None = None, *, saving: bool = False) -> bool:
    """Train to the end, or until it has been killed, `kill_after` seconds from its start, or with `saving` at the next
    checkpoint; whether it was killed."""
    name = f"run-{time.monotonic_ns()}"
    experiment: list[str | Path] = [BIN / "dvc", "exp", "run", "--force", "--name", name]
    if how == "queue":
        call(folder, *experiment, "--queue")
        command: list[str | Path] = [BIN / "dvc", "queue", "start"]
    elif how == "temp":
        command = [*experiment, "--temp"]
    else:
        command = [*(TORCHRUN if how == "two" else (sys.executable,)), "-m", "stages.train"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)
        killed = kill_after is not None and kill(folder, process, kill_after, saving)
        code = process.wait()
        if how == "queue":
            wait(lambda: not any(line in queue(folder) for line in ("Queued", "Running")), "the queue is empty")
        elif code and not killed:
            log.seek(0)
            sys.exit(f"error: {command} exited with {code}\n{log.read().decode()}")
    if how in ("temp", "queue") and not killed:
        call(folder, "git", "checkout", "--quiet", "--force", ".")
        call(folder, BIN / "dvc", "exp", "apply", name)
    return killed


def kill(folder: Path, starter: "subprocess.Popen[bytes]", after: float, saving: bool) -> bool:
    """SIGKILL the processes that train for `folder`, and a torchrun that started them; False where they have ended."""
    wait(lambda: trainers(folder) or (starter.poll() is not None and "dvc" not in str(starter.args)), "training starts")
    time.sleep(after)
    family = trainers(folder)
    while saving and not unfinished(folder) and any(map(is_running, family)):
        pass
    family = [process for process in family if is_running(process)]
    # Stopped first, so that none sees another one die.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
    return bool(family)


def unfinished(folder: Path) -> list[Path]:
    """Files of checkpoints that are being written, or that a kill has left so."""
    return list((folder / ".dvc/tmp/checkpoints").glob("*/.*.tmp"))


def is_running(process: int) -> bool:
    """Whether a process is there and has not ended, for its parent to notice."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def trainers(folder: Path) -> list[int]:
    """The processes of stages.train, torchrun's own among them, whose working folder is `folder` or below."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().split(b"\0")
            if b"stages.train" in command and (path / "cwd").readlink().is_relative_to(folder.resolve()):
                found.append(int(path.name))
    return found


def wait(condition: Callable[[], object], what: str) -> None:
    """Until `condition` holds; ends the benchmark where that takes too long."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"error: waited {_PATIENCE} s in vain until {what}")
        time.sleep(0.02)


def queue(folder: Path) -> str:
    return subprocess.run(
        [BIN / "dvc", "queue", "status"], cwd=folder, env=environment(), capture_output=True, text=True
    ).stdout


def call(folder: Path, *command: str | Path) -> None:
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)


def results(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


if __name__ == "__main__":
    main()
