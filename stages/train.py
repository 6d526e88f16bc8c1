"""STAGE 2: learn from the train split, choose the epoch on the val split. Reads prepared/, writes models/.

models/model.safetensors        the weights of the epoch with the best val accuracy
models/model.json               all that is needed to use them
plots/curves.csv                a row per epoch, written as training goes
metrics/train.json              the chosen epoch and its figures
metrics/run.json, metrics/environment.json  how fast, and on what; the only files that another run may change
"""

import argparse
import contextlib
import csv
import math
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from stages import checkpoint
from stages.dataset import Split, load_info, read_dataset
from stages.environment import environment, peak_memory_mb
from stages.errors import UserError, run_main
from stages.files import require_writable, write_json
from stages.guards import FiniteLoss, explained
from stages.loader import Loader, TrainingBatch
from stages.model import build_model, placed
from stages.optimizer import learning_rate
from stages.params import TrainParams, load
from stages.processes import Processes, finish, joined, local_rank
from stages.runtime import Runtime, seed_layers, setup, stream_seed
from stages.state import TrainingState
from stages.trained import WEIGHTS, save_trained

CURVES = Path("plots/curves.csv")
METRICS = Path("metrics/train.json")
RUN = Path("metrics/run.json")
ENVIRONMENT = Path("metrics/environment.json")
# A kill costs at most so much work, besides the rest of an epoch that is shorter.
SAVE_SECONDS = 60


class Run(NamedTuple):
    """What stays the same from the first step of a run to its last."""

    params: TrainParams
    runtime: Runtime
    processes: Processes
    store: checkpoint.Store
    stop: checkpoint.StopSignals
    guard: FiniteLoss
    steps: int


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.train", description="Stage 2: train on prepared/ and write the best model to models/."
    ).parse_args()
    started = time.perf_counter()
    params = load(TrainParams)
    runtime = setup(params, local_rank(), compiled=params.compile)
    with joined(runtime.device) as processes, explained(params, runtime.precision):
        train_and_write(params, runtime, processes, started)


def train_and_write(params: TrainParams, runtime: Runtime, processes: Processes, started: float) -> None:
    """All of the stage, in each of the processes; the first one writes."""
    info = load_info()
    train, val = (Split.load(name, info, runtime.device) for name in ("train", "val"))
    loader = Loader(train, params, processes)
    steps = params.steps or params.epochs * loader.steps_per_epoch

    torch.manual_seed(params.seed)
    model = build_model(params.model, num_classes=len(info.classes), channels=info.channels, image_size=info.image_size)
    placed(model, runtime.device)
    require_enough_images(loader, model, processes)
    several = f", {processes.count} processes" if processes.count > 1 else ""
    print(
        f"train: {params.model}, {sum(p.numel() for p in model.parameters()):,} parameters, on {runtime}{several}"
        f"{', compiled' if params.compile else ''}; {len(train)} train images, {train.placement}, and {len(val)} val "
        f"images; {steps} steps, {loader.steps_per_epoch} an epoch",
        flush=True,
    )

    record = environment(runtime, processes.count)
    store = checkpoint.Store(
        checkpoint.fingerprint({"params": params.model_dump(), "data": read_dataset(), "environment": record})
    )
    state = TrainingState(model, params, runtime, processes)
    with contextlib.ExitStack() as stack:
        if processes.first:
            require_writable(WEIGHTS, METRICS)
            stack.enter_context(store.locked())
        stop = stack.enter_context(checkpoint.StopSignals())
        if saved := processes.from_first(store.load() if processes.first else None):
            state.restore(saved)
            print(f"  resumed from epoch {state.epoch}, step {state.step} of {store.folder}", flush=True)
        guard = FiniteLoss(runtime.device, processes)
        fit(state, loader, val, Run(params, runtime, processes, store, stop, guard, steps))
        if processes.first:
            save_trained(state.best_weights, info, params, int(state.best["epoch"]), state.best["val_accuracy"])
            write_metrics(state.best)
            write_json(ENVIRONMENT, record)
            write_json(
                RUN,
                {
                    "training_seconds": round(state.seconds, 2),
                    "images_per_second": round(steps * loader.batch_size / state.step_seconds),
                    "total_seconds": round(time.perf_counter() - started, 2),
                    "resumed": state.resumed,
                    **peak_memory_mb(runtime.device),
                },
            )
            store.clear()
    print(f"  best epoch {state.best['epoch']}: val accuracy {state.best['val_accuracy']:.4f} → {WEIGHTS}")


def fit(state: TrainingState, loader: Loader, val: Split, run: Run) -> None:
    """Train from where `state` stands to the last step; write the curves; keep the weights of the best epoch.

    Saves every minute, and at the end of each epoch unless epochs are short and saving takes long. Exits with
    checkpoint.STOPPED, after saving, on a stop signal.
    """
    forward = run.processes.averaging_gradients(state.model)
    if run.params.compile:
        forward.compile()
    # The other processes' curves are the same.
    curves = CURVES if run.processes.first else Path(os.devnull)
    curves.parent.mkdir(parents=True, exist_ok=True)
    with curves.open("w", encoding="utf-8", newline="") as stream, progress_bar(run) as bar:
        for figures in state.curves:
            write_row(stream, figures)
        bar.update(state.total_steps)
        while state.total_steps < run.steps:
            train_one_epoch(state, forward, loader, run, bar)
            run.processes.add(state.sums)
            total_loss, correct, images = state.sums.tolist()
            require_finite(state, run)
            if state.average:
                state.average.swap()
            run.processes.buffers_from_first(state.model)
            val_loss, val_accuracy = validate(state.model, val, run)
            if not math.isfinite(val_loss):
                raise UserError(
                    f"train: the validation loss is {val_loss} after epoch {state.epoch} (lr {state.lr:.3g}), though "
                    "training's is finite. Lower lr."
                )
            figures = {
                "epoch": state.epoch,
                "lr": state.lr,
                "train_loss": total_loss / images,
                "train_accuracy": correct / images,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
            }
            write_row(stream, figures)
            tqdm.write(
                f"  epoch {state.epoch:3}/{math.ceil(run.steps / loader.steps_per_epoch)}  "
                f"train loss {total_loss / images:.4f}  val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}",
                file=sys.stdout,
            )
            sys.stdout.flush()
            state.finish_epoch(figures, state.model.state_dict())
            if state.average:
                state.average.swap()
            wishes = wish(run, save=run.store.due)
            finish(run.processes.largest(wishes))
            stop, save_now = wishes.tolist()
            if stop or save_now:
                save_checkpoint(state, run, stop=bool(stop) and state.total_steps < run.steps)


def train_one_epoch(state: TrainingState, forward: nn.Module, loader: Loader, run: Run, bar: "tqdm[NoReturn]") -> None:
    """The rest of an epoch's pass over the train split, from step `state.step` on, at most to the last of all."""
    params, processes = run.params, run.processes
    forward.train()
    if state.step == 0:
        state.lr = learning_rate(params, state.total_steps, run.steps)
    started = time.perf_counter()
    for batch in loader.epoch(state.epoch, first=state.step):
        # What must be agreed on travels while the step is computed.
        wishes = wish(run, save=run.store.age > SAVE_SECONDS)
        agreement = processes.largest(wishes)
        # Dropout's masks differ between steps and between processes.
        seed_layers(run.runtime.device, stream_seed(params.seed, "layers", state.total_steps, processes.rank))
        with run.runtime.autocast():
            logits = forward(batch.images)
        total_loss = summed_loss(logits, batch, params.label_smoothing)
        # Parts may differ by an image; the mean over processes of these is the mean over the whole batch.
        loss = total_loss * (processes.count / batch.size)
        run.guard.watch(loss)
        state.optimizer.zero_grad()
        state.scaler.scale(loss).backward()
        run.guard.settle(state.total_steps)
        require_finite(state, run, wait=False)
        if params.clip_norm:
            state.scaler.unscale_(state.optimizer)  # type: ignore[arg-type]  # it asks for no more than param_groups
            state.optimizer.clip(params.clip_norm)
        state.scaler.step(
            state.optimizer,  # type: ignore[arg-type]
            lr=learning_rate(params, state.total_steps, run.steps),
            halt=run.guard.halt,
        )
        state.scaler.update()
        if state.average:
            state.average.update(state.total_steps)
        state.count(total_loss, logits, batch.labels)
        now = time.perf_counter()
        state.step_seconds += now - started
        started = now
        bar.update()
        finish(agreement)
        stop, save_now = wishes.tolist()
        if (stop or save_now) and state.total_steps < run.steps:
            save_checkpoint(state, run, stop=bool(stop))
        if state.total_steps == run.steps:
            break
    if run.runtime.device.type == "cuda":
        torch.cuda.synchronize()
    state.step_seconds += time.perf_counter() - started


def summed_loss(logits: torch.Tensor, batch: TrainingBatch, label_smoothing: float) -> torch.Tensor:
    """The sum of the images' cross-entropies, in fp32; of a mixed image, weighted by its shares."""
    logits = logits.float()
    if batch.mix is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="sum")
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (batch.labels, batch.mix.labels)
    )
    return torch.lerp(other, own, batch.mix.share).sum()


def require_finite(state: TrainingState, run: Run, *, wait: bool = True) -> None:
    """UserError where a loss was not finite, as far as is known; `wait`: until the device's last step is known."""
    if wait and run.runtime.device.type == "cuda":
        torch.cuda.synchronize()
    step = run.guard.first_bad
    if step is None:
        return
    in_epoch = state.step - (state.total_steps - step)
    hint = "" if run.params.clip_norm else ", or set clip_norm to 1"
    raise UserError(
        f"train: the loss is not finite in epoch {state.epoch}, step {in_epoch + 1} "
        f"(lr {learning_rate(run.params, step, run.steps):.3g}); the weights were not changed by it. Lower lr{hint}."
    )


def wish(run: Run, *, save: bool) -> torch.Tensor:
    """What this process wants, as int32: whether to stop, and, where it is the one that knows, whether to save."""
    return torch.tensor([run.stop.received is not None, run.processes.first and save]).int()


def save_checkpoint(state: TrainingState, run: Run, *, stop: bool) -> None:
    """Save; then, to `stop`, exit with checkpoint.STOPPED."""
    require_finite(state, run)
    snapshot = state.snapshot()
    if run.processes.first:
        run.store.save(snapshot)
    if stop:
        if run.processes.first:
            print(
                f"stopped by {run.stop.received or 'a signal to another process'} after epoch {state.epoch}, step "
                f"{state.step}; the same command goes on from there ({run.store.folder})",
                file=sys.stderr,
            )
        sys.exit(checkpoint.STOPPED)


@torch.inference_mode()
def validate(model: nn.Module, val: Split, run: Run) -> tuple[float, float]:
    """Mean cross-entropy, without label smoothing, and accuracy on the val split."""
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=val.device)
    for batch in val.batches(run.params.eval_batch_size, run.processes.share(len(val))):
        with run.runtime.autocast():
            logits = model(batch.images)
        sums[0] += F.cross_entropy(logits.float(), batch.labels, reduction="sum")
        sums[1] += (logits.argmax(1) == batch.labels).sum()
    run.processes.add(sums)
    loss, correct = sums.tolist()
    return loss / len(val), correct / len(val)


def require_enough_images(loader: Loader, model: nn.Module, processes: Processes) -> None:
    """UserError where a process would get no image, or a single one, of which batch normalisation knows no variance."""
    normalises = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    fewest = loader.batch_size // processes.count
    if fewest < 1 + normalises:
        raise UserError(
            f"batch_size: expected {1 + normalises} or more images for each of {processes.count} processes"
            f"{', because the model normalises over a batch' if normalises else ''}; got {loader.batch_size} in all. "
            "Raise batch_size in params.yaml, or give data/ more images."
        )


def write_row(stream: TextIO, figures: dict[str, float]) -> None:
    """Append a row to the curves, the header first, and flush, so that the curve can be watched."""
    writer = csv.writer(stream, lineterminator="\n")
    if stream.tell() == 0:
        writer.writerow(figures)
    writer.writerow([round(value, 6) for value in figures.values()])
    stream.flush()


def write_metrics(best: dict[str, float]) -> None:
    """Write the chosen epoch's figures."""
    figures = {("best_epoch" if name == "epoch" else name): value for name, value in best.items() if name != "lr"}
    write_json(METRICS, {name: round(value, 6) for name, value in figures.items()})


def progress_bar(run: Run) -> "tqdm[NoReturn]":
    """A bar on a terminal; nothing in a log, where a line per epoch says enough."""
    return tqdm(total=run.steps, unit="step", leave=False, disable=not (run.processes.first and sys.stderr.isatty()))


if __name__ == "__main__":
    run_main(main)
