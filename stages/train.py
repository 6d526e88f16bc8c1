"""STAGE 2: learn from the train split, choose the epoch on the val split. Reads prepared/, writes models/.

models/model.safetensors        the weights of the epoch with the best val accuracy
models/model.json               all that is needed to use them
plots/curves.csv                a row per epoch, written as training goes
metrics/train.json              the chosen epoch and its figures
metrics/run.json, metrics/environment.json  how fast, and on what; the only files that another run may change
"""

import argparse
import copy
import csv
import math
import sys
import time
from pathlib import Path
from typing import NoReturn, TextIO

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from stages import checkpoint, runtime
from stages.dataset import DatasetInfo, Split, load_info, read_dataset
from stages.errors import UserError, run_main
from stages.files import replacing, require_writable, write_json
from stages.model import build_model
from stages.params import TrainParams, load

WEIGHTS = Path("models/model.safetensors")
MODEL = Path("models/model.json")
CURVES = Path("plots/curves.csv")
METRICS = Path("metrics/train.json")
RUN = Path("metrics/run.json")
ENVIRONMENT = Path("metrics/environment.json")
# A kill costs at most so much work, besides the rest of an epoch that is shorter.
SAVE_SECONDS = 60


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.train", description="Stage 2: train on prepared/ and write the best model to models/."
    ).parse_args()
    started = time.perf_counter()
    params = load(TrainParams)
    device = runtime.setup(params)
    info = load_info()
    train, val = (Split.load(name, info, device) for name in ("train", "val"))

    torch.manual_seed(params.seed)
    model = build_model(params.model, num_classes=len(info.classes), channels=info.channels, image_size=info.image_size)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimizer = build_optimizer(model, params)
    steps = params.epochs * train.steps_per_epoch(params.batch_size)
    schedule = one_cycle(optimizer, params, steps)
    print(
        f"train: {params.model}, {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"on {runtime.describe(device)}; fp32, deterministic; {len(train)} train and {len(val)} val images, "
        f"{params.epochs} epochs of {steps // params.epochs} steps",
        flush=True,
    )

    require_writable(WEIGHTS, METRICS)
    environment = runtime.environment(device)
    store = checkpoint.Store(
        checkpoint.fingerprint({"params": params.model_dump(), "data": read_dataset(), "environment": environment})
    )
    state = TrainingState(model, optimizer, schedule)
    with store.locked(), checkpoint.StopSignals() as stop:
        if saved := store.load():
            state.restore(saved)
            print(f"  resumed from epoch {state.epoch}, step {state.step} of {store.folder}", flush=True)
        fit(state, train, val, params, store, stop)
        write_model(state.best_weights, info, params, int(state.best["epoch"]), state.best["val_accuracy"])
        write_json(
            METRICS,
            {
                ("best_epoch" if name == "epoch" else name): round(value, 6)
                for name, value in state.best.items()
                if name != "lr"
            },
        )
        write_json(ENVIRONMENT, environment)
        write_json(
            RUN,
            {
                "training_seconds": round(state.seconds, 2),
                "images_per_second": round(steps * min(params.batch_size, len(train)) / state.seconds),
                "total_seconds": round(time.perf_counter() - started, 2),
                "resumed": state.resumed,
                **runtime.peak_memory_mb(device),
            },
        )
        store.clear()
    print(f"  best epoch {state.best['epoch']}: val accuracy {state.best['val_accuracy']:.4f} → {WEIGHTS}")


def fit(
    state: "TrainingState",
    train: Split,
    val: Split,
    params: TrainParams,
    store: checkpoint.Store,
    stop: checkpoint.StopSignals,
) -> None:
    """Train from where `state` stands to the last epoch; write the curves; keep the weights of the best epoch.

    Saves at the end of each epoch and every minute. Exits with checkpoint.STOPPED, after saving, on a stop signal.
    """
    steps_per_epoch = train.steps_per_epoch(params.batch_size)
    CURVES.parent.mkdir(parents=True, exist_ok=True)
    with CURVES.open("w", encoding="utf-8", newline="") as stream, progress_bar(params.epochs * steps_per_epoch) as bar:
        for figures in state.curves:
            write_row(stream, figures)
        bar.update((state.epoch - 1) * steps_per_epoch + state.step)
        while state.epoch <= params.epochs:
            train_one_epoch(state, train, params, store, stop, bar)
            train_loss, train_accuracy = state.means()
            if not math.isfinite(train_loss):
                raise UserError(
                    f"train: the loss is {train_loss} in epoch {state.epoch} (lr {state.lr:.3g}). "
                    "Lower lr in params.yaml."
                )
            val_loss, val_accuracy = validate(state.model, val, params.eval_batch_size)
            figures = {
                "epoch": state.epoch,
                "lr": state.lr,
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
            }
            write_row(stream, figures)
            tqdm.write(
                f"  epoch {state.epoch:3}/{params.epochs}  train loss {train_loss:.4f}  "
                f"val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}",
                file=sys.stdout,
            )
            sys.stdout.flush()
            state.finish_epoch(figures)
            store.save(state.snapshot())


def train_one_epoch(
    state: "TrainingState",
    train: Split,
    params: TrainParams,
    store: checkpoint.Store,
    stop: checkpoint.StopSignals,
    bar: "tqdm[NoReturn]",
) -> None:
    """The rest of an epoch's pass over the train split, from step `state.step` on."""
    state.model.train()
    if state.step == 0:
        state.lr = state.optimizer.param_groups[0]["lr"]
    saved = time.monotonic()
    for batch in train.shuffled_batches(params.batch_size, params.seed, state.epoch, first=state.step):
        logits = state.model(batch.images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=params.label_smoothing)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        state.count(loss, logits, batch.labels)
        bar.update()
        if stop.received or time.monotonic() - saved > SAVE_SECONDS:
            store.save(state.snapshot())
            saved = time.monotonic()
        if stop.received:
            print(
                f"stopped by {stop.received} after epoch {state.epoch}, step {state.step}; "
                f"the same command goes on from there ({store.folder})",
                file=sys.stderr,
            )
            sys.exit(checkpoint.STOPPED)


class TrainingState:
    """How far training has come: all that decides how it goes on, as a checkpoint or in use."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.epoch = 1
        self.step = 0  # steps done of this epoch
        self.lr = 0.0  # at the epoch's first step
        self.curves: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, torch.Tensor] = {}
        self.resumed = 0
        self._seconds_before = 0.0
        self._started = time.perf_counter()
        self._device = next(model.parameters()).device
        self._reset_sums()

    @property
    def seconds(self) -> float:
        """Time spent training, in all runs together, without what a killed run did after it last saved."""
        return self._seconds_before + time.perf_counter() - self._started

    def count(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a step to the epoch's sums, on the device: reading a number would make the CPU wait for the GPU."""
        self._total_loss += loss.detach() * len(labels)
        self._correct += (logits.detach().argmax(1) == labels).sum()
        self._images += len(labels)
        self.step += 1

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy over the epoch, as the weights stood at each step."""
        return self._total_loss.item() / self._images, self._correct.item() / self._images

    def finish_epoch(self, figures: dict[str, float]) -> None:
        """Keep the figures, and the weights if they are the best; a tie goes to the lower loss, then to the earlier."""
        self.curves.append(figures)
        if not self.best or (figures["val_accuracy"], -figures["val_loss"]) > (
            self.best["val_accuracy"],
            -self.best["val_loss"],
        ):
            self.best = figures
            self.best_weights = copy.deepcopy(self.model.state_dict())
        self.epoch += 1
        self.step = 0
        self._reset_sums()

    def snapshot(self) -> checkpoint.Checkpoint:
        """Everything that `restore` needs, random generators included."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        tensors |= {
            f"optimizer.{index}.{name}": value
            for index, values in optimizer["state"].items()
            for name, value in values.items()
            if value is not None
        }
        tensors |= {"total_loss": self._total_loss, "correct": self._correct, "rng": torch.get_rng_state()}
        if self._device.type == "cuda":
            tensors["cuda_rng"] = torch.cuda.get_rng_state(self._device)
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "lr": self.lr,
            "images": self._images,
            "curves": self.curves,
            "best": self.best,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "param_groups": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        return checkpoint.Checkpoint(tensors, state)

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Stand where `saved` was taken, in a state of the same experiment."""
        tensors, state = saved
        self.model.load_state_dict(_below("model.", tensors))
        self.best_weights = {name: tensor.to(self._device) for name, tensor in _below("best.", tensors).items()}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _below("optimizer.", tensors).items():
            index, _, kind = name.partition(".")
            # In the memory format of its parameter; load_state_dict keeps the one that it is given.
            moments.setdefault(int(index), {})[kind] = (
                tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
            )
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(tensors["rng"])
        if "cuda_rng" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_rng"], self._device)
        self.epoch, self.step, self.lr = state["epoch"], state["step"], state["lr"]
        self.curves, self.best, self.resumed = state["curves"], state["best"], state["resumed"] + 1
        self._seconds_before = state["seconds"]
        self._total_loss = tensors["total_loss"].to(self._device)
        self._correct = tensors["correct"].to(self._device)
        self._images = state["images"]

    def _reset_sums(self) -> None:
        self._total_loss = torch.zeros((), device=self._device)
        self._correct = torch.zeros((), dtype=torch.int64, device=self._device)
        self._images = 0


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.inference_mode()
def validate(model: nn.Module, val: Split, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy, without label smoothing, and accuracy on the val split."""
    model.eval()
    total_loss = torch.zeros((), device=val.labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=val.labels.device)
    for batch in val.batches(batch_size):
        logits = model(batch.images)
        total_loss += F.cross_entropy(logits, batch.labels, reduction="sum")
        correct += (logits.argmax(1) == batch.labels).sum()
    return total_loss.item() / len(val), correct.item() / len(val)


def build_optimizer(model: nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; one fused kernel updates all parameters."""
    if params.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(),
            lr=params.lr,
            betas=(params.momentum, 0.999),
            weight_decay=params.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        model.parameters(),
        lr=params.lr,
        momentum=params.momentum,
        weight_decay=params.weight_decay,
        nesterov=params.momentum > 0,
        fused=True,
    )


def one_cycle(
    optimizer: torch.optim.Optimizer, params: TrainParams, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """From lr/25 up to lr in the first `warmup` of the steps, then down to nearly zero, along cosines.

    Smith and Topin, "Super-Convergence" (2018); the momentum stays what params.yaml says.
    """
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=params.lr, total_steps=steps + 1, pct_start=params.warmup, cycle_momentum=False
    )


def write_row(stream: TextIO, figures: dict[str, float]) -> None:
    """Append a row to the curves, the header first, and flush, so that the curve can be watched."""
    writer = csv.writer(stream, lineterminator="\n")
    if stream.tell() == 0:
        writer.writerow(figures)
    writer.writerow([round(value, 6) for value in figures.values()])
    stream.flush()


def write_model(
    weights: dict[str, torch.Tensor], info: DatasetInfo, params: TrainParams, epoch: int, val_accuracy: float
) -> None:
    """Write the weights, and beside them all that evaluate or a stranger needs to use them."""
    with replacing(WEIGHTS) as temporary:
        temporary.write_bytes(save({name: tensor.contiguous().cpu() for name, tensor in weights.items()}))
    write_json(
        MODEL,
        {
            "architecture": params.model,
            "classes": info.classes,
            "channels": info.channels,
            "image_size": info.image_size,
            "mean": info.mean,
            "std": info.std,
            "epoch": epoch,
            "val_accuracy": round(val_accuracy, 6),
            "params": params.model_dump(),
        },
    )


def progress_bar(steps: int) -> "tqdm[NoReturn]":
    """A bar on a terminal; nothing in a log, where a line per epoch says enough."""
    return tqdm(total=steps, unit="step", leave=False, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    run_main(main)
