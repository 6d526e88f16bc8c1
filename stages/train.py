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

from stages import runtime
from stages.dataset import DatasetInfo, Split, load_info
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
    best: dict[str, float] = {}
    best_weights: dict[str, torch.Tensor] = {}
    CURVES.parent.mkdir(parents=True, exist_ok=True)
    training_started = time.perf_counter()
    with CURVES.open("w", encoding="utf-8", newline="") as stream, progress_bar(steps) as bar:
        for epoch in range(1, params.epochs + 1):
            lr = optimizer.param_groups[0]["lr"]
            train_loss, train_accuracy = train_one_epoch(model, train, optimizer, schedule, params, epoch, bar)
            if not math.isfinite(train_loss):
                raise UserError(
                    f"train: the loss is {train_loss} in epoch {epoch} (lr {lr:.3g}). Lower lr in params.yaml."
                )
            val_loss, val_accuracy = validate(model, val, params.eval_batch_size)
            figures = {
                "epoch": epoch,
                "lr": lr,
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
            }
            write_row(stream, figures)
            tqdm.write(
                f"  epoch {epoch:3}/{params.epochs}  train loss {train_loss:.4f}  "
                f"val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}",
                file=sys.stdout,
            )
            sys.stdout.flush()
            # A tie goes to the lower loss, then to the earlier epoch.
            if not best or (val_accuracy, -val_loss) > (best["val_accuracy"], -best["val_loss"]):
                best = figures
                best_weights = copy.deepcopy(model.state_dict())
    training_seconds = time.perf_counter() - training_started

    write_model(best_weights, info, params, int(best["epoch"]), best["val_accuracy"])
    write_json(
        METRICS,
        {("best_epoch" if name == "epoch" else name): round(value, 6) for name, value in best.items() if name != "lr"},
    )
    write_json(ENVIRONMENT, runtime.environment(device))
    write_json(
        RUN,
        {
            "training_seconds": round(training_seconds, 2),
            "images_per_second": round(steps * min(params.batch_size, len(train)) / training_seconds),
            "total_seconds": round(time.perf_counter() - started, 2),
            **runtime.peak_memory_mb(device),
        },
    )
    print(f"  best epoch {best['epoch']}: val accuracy {best['val_accuracy']:.4f} → {WEIGHTS}")


def train_one_epoch(
    model: nn.Module,
    train: Split,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    params: TrainParams,
    epoch: int,
    bar: "tqdm[NoReturn]",
) -> tuple[float, float]:
    """One pass over the train split; mean loss and accuracy over it, as the weights stood at each step."""
    model.train()
    # Summed on the device: reading a number each step would make the CPU wait for the GPU.
    total_loss = torch.zeros((), device=train.labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=train.labels.device)
    images = 0
    for batch in train.shuffled_batches(params.batch_size, params.seed, epoch):
        logits = model(batch.images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=params.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total_loss += loss.detach() * len(batch.labels)
        correct += (logits.detach().argmax(1) == batch.labels).sum()
        images += len(batch.labels)
        bar.update()
    return total_loss.item() / images, correct.item() / images


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
