"""What checkpoints cost: `.venv/bin/python -m benchmarks.checkpoint [one] [share] [epochs]`.

one     a save of a model with AdamW and the weights of its best epoch, then another with the same best epoch: seconds
        that training stands still, seconds until the file is there, CPU seconds, and the largest memory so far above
        that of training ÷ the checkpoint's file
share   matrix products on all threads, as steps, with such saves beside them: seconds that a save takes from training,
        by the store's own account, and as standing still and slower steps; then an hour of steps of --step seconds and
        saves that take the larger of both, by the store's rule, on a simulated clock: % of the hour that saving takes
epochs  CPU seconds of saving alone, and bytes, at the end of each of 1,000 and 10,000 epochs of a tiny model, and the
        exponent of growth

Each in processes of its own with the code as it is, and, with --before COMMIT, interleaved with that of a commit. On a
busy machine CPU seconds and memory hold; wall seconds do not.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# In this order: what the stages set has to be set before PyTorch's first operation.
from benchmarks.startup import ROOT, spread
from stages.common.params import load
from stages.model.architectures import build_model, to_device
from stages.model.runtime import cpu_name, setup
from stages.train.checkpoint import Store
from stages.train.distributed import World
from stages.train.loop import SAVE_SECONDS
from stages.train.params import TrainParams
from stages.train.state import TrainingState

import torch  # isort: skip

EPOCHS = (1_000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description="What checkpoints cost.")
    parser.add_argument("parts", nargs="*", choices=[[], "one", "share", "epochs"], help="which (default: all)")
    parser.add_argument("--before", help="a commit to compare with")
    parser.add_argument("--model", default="convnext_base", help="of one and share (default: convnext_base)")
    parser.add_argument("--rounds", type=int, default=3, help="of one and share (default: 3)")
    parser.add_argument("--step", type=float, default=1.0, help="seconds, of share (default: 1)")
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS, help="of epochs (default: 1000 10000)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        call: dict[str, Any] = json.loads(arguments.worker)
        print(json.dumps(WORKERS[call.pop("part")](**call)))
        return
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        trees = {"now": ROOT}
        if arguments.before:
            trees = {"before": Path(name, "before"), **trees}
            git = ("git", "-C", str(ROOT), "worktree")
            subprocess.run([*git, "add", "--quiet", "--detach", str(trees["before"]), arguments.before], check=True)
        try:
            for part in arguments.parts or ("one", "share", "epochs"):
                PARTS[part](trees, arguments)
        finally:
            if arguments.before:
                subprocess.run([*git, "remove", "--force", str(trees["before"])], check=True)


def one(trees: dict[str, Path], arguments: argparse.Namespace) -> None:
    measured: dict[str, list[list[dict[str, float]]]] = {tree: [] for tree in trees}
    for _ in range(arguments.rounds):
        for tree, path in trees.items():
            measured[tree].append(run(path, part="one", model=arguments.model))
    for tree, rounds in measured.items():
        for number, what in enumerate(("first save", "next save, the same best epoch")):
            saves = [saves[number] for saves in rounds]
            print(
                f"one, {arguments.model}, {tree}, {what}: "
                + ", ".join(f"{name} {spread([save[name] for save in saves])}" for name in saves[0]),
                flush=True,
            )


def share(trees: dict[str, Path], arguments: argparse.Namespace) -> None:
    for tree, path in trees.items():
        got = run(path, part="share", model=arguments.model, rounds=arguments.rounds, step=arguments.step)
        print(f"share, {arguments.model}, {tree}: " + ", ".join(f"{name} {value:.4g}" for name, value in got.items()))


def epochs(trees: dict[str, Path], arguments: argparse.Namespace) -> None:
    for tree, path in trees.items():
        got = [run(path, part="epochs", count=count) for count in arguments.epochs]
        for count, figures in zip(arguments.epochs, got, strict=True):
            print(f"epochs, {tree}, {count}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        if len(got) > 1:
            growth = math.log(got[-1]["CPU s"] / got[0]["CPU s"]) / math.log(arguments.epochs[-1] / arguments.epochs[0])
            print(f"epochs, {tree}: CPU s grow with epochs to the power of {growth:.2f}", flush=True)


PARTS: dict[str, Callable[[dict[str, Path], argparse.Namespace], None]] = {"one": one, "share": share, "epochs": epochs}


def run(tree: Path, **call: Any) -> Any:
    """What a worker measures with the code of `tree`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.yaml").write_bytes((tree / "params.yaml").read_bytes())
        done = subprocess.run(
            # -P: files beside this one have the names of modules of the standard library.
            [sys.executable, "-P", ROOT / "benchmarks/checkpoint.py", "--worker", json.dumps(call)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(tree), "CHECKPOINT_DIR": f"{folder}/checkpoints"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)


# --- in the processes that measure -----------------------------------------------------------------------------------


def measure_one(model: str) -> list[dict[str, float]]:
    """Of two saves, the first with weights of a best epoch that are not there yet."""
    state, store = trained(model), Store("0" * 16)
    Path("/proc/self/clear_refs").write_text("5")  # the largest memory so far is forgotten
    base = memory("VmRSS")
    with store.locked():
        return [save(state, store, base) for _ in range(2)]


def save(state: TrainingState, store: Store, base: int) -> dict[str, float]:
    """What one save takes, until its files are there."""
    cpu, started = time.process_time(), time.perf_counter()
    begin(state, store)
    still = time.perf_counter() - started
    end(store)
    written = time.perf_counter() - started
    cpu = time.process_time() - cpu
    size = max(store.folder.glob("????????.safetensors")).stat().st_size
    extra = memory("VmHWM") - base
    return {
        "still s": still,
        "written after s": written,
        "CPU s": cpu,
        "MB": size / 1e6,
        "extra MB": extra / 1e6,
        "extra ÷ file": extra / size,
    }


def measure_share(model: str, rounds: int, step: float) -> dict[str, float]:
    """Of saves of the same best epoch, beside steps; then of an hour."""
    state, store = trained(model), Store("0" * 16)
    side = torch.rand(1024, 1024)

    def compute() -> float:
        started = time.perf_counter()
        for _ in range(5):
            (side @ side).sum()
        return time.perf_counter() - started

    accounts, lost = [], []
    with store.locked():
        begin(state, store)
        end(store)
        for _ in range(rounds):
            usual = statistics.median(compute() for _ in range(50))
            started = time.perf_counter()
            begin(state, store)
            still = time.perf_counter() - started
            steps = []
            while is_writing(store):
                steps.append(compute())
            end(store)
            accounts.append(getattr(store, "cost", still))
            lost.append(still + sum(steps) - usual * len(steps))
    account, loss = statistics.median(accounts), statistics.median(lost)
    taken = max(account, loss)
    store._cost, store._saved = taken, 0.0
    clock = saves = 0.0
    time.monotonic = lambda: clock
    while clock < 3600:
        clock += step
        if store.age > SAVE_SECONDS and (not is_new(store) or store.due):
            clock += taken
            saves += 1
            store._saved = clock
    return {
        "a save takes s, by account": account,
        "by the clock": loss,
        "saves in an hour": saves,
        "% of the hour": 100 * saves * taken / clock,
    }


def is_new(store: Store) -> bool:
    """Whether this code saves beside training."""
    return hasattr(store, "save_beside")


def is_writing(store: Store) -> bool:
    return is_new(store) and store._writer is not None and store._writer.is_alive()


def measure_epochs(count: int) -> dict[str, float]:
    """Of a save at the end of each epoch."""
    state, store = trained("simplenet", 8, 2), Store("0" * 16)
    state.curves.clear()
    written = cpu = wall = 0.0
    with store.locked():
        for epoch in range(1, count + 1):
            state.end_epoch(figures(epoch, best=epoch == 1))
            before, started = time.process_time(), time.perf_counter()
            begin(state, store)
            end(store)
            cpu += time.process_time() - before
            wall += time.perf_counter() - started
            written += max(store.folder.glob("????????.safetensors")).stat().st_size
        saved = store.load()
        assert saved
        assert len(saved.curves if is_new(store) else saved.state["curves"]) == count
    return {"CPU s": cpu, "wall s": wall, "MB of checkpoints": written / 1e6}


WORKERS: dict[str, Callable[..., Any]] = {"one": measure_one, "share": measure_share, "epochs": measure_epochs}


def trained(model: str, side: int = 224, classes: int = 1000) -> TrainingState:
    """A model after a step of AdamW and an epoch, which is the best."""
    params = load(TrainParams).model_copy(update={"model": model, "optimizer": "adamw"})
    runtime = setup(params)
    network = to_device(build_model(model, num_classes=classes, channels=3, image_size=side), runtime.device)
    state = TrainingState(network, params, runtime, World())
    for parameter in network.parameters():
        parameter.grad = torch.rand_like(parameter)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.end_epoch(figures(1, best=True))
    return state


def figures(epoch: int, *, best: bool) -> dict[str, float]:
    third = epoch / 3
    return {
        "epoch": epoch,
        "lr": third,
        "train_loss": third,
        "train_accuracy": third,
        "val_loss": third,
        "val_accuracy": float(best),
    }


def begin(state: TrainingState, store: Store) -> None:
    getattr(store, "save_beside", store.save)(state.snapshot())


def end(store: Store) -> None:
    getattr(store, "wait", lambda: None)()


def memory(field: str) -> int:
    """Bytes of this process: resident, or at most so far (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
