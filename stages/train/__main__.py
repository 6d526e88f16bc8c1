"""STAGE 2: learn from the train split, choose the epoch on the val split. Reads prepared/, writes models/.

models/model.safetensors        the weights of the epoch with the best val accuracy
models/model.json               all that is needed to use them
plots/curves.csv                a row per epoch, written as training goes
metrics/train.json              the chosen epoch and its figures
metrics/run.json, metrics/environment.json  how fast, and on what; the only files that another run may change
"""

import argparse
import contextlib
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from stages.common import escape
from stages.common.dependencies import require_modules_listed
from stages.common.errors import UserError, run_main
from stages.common.files import require_writable, write_json
from stages.common.params import load
from stages.model import streaming
from stages.model.dataset import Split, load_info, read_dataset
from stages.model.pretrained import read_pretrained
from stages.model.runtime import Runtime, setup
from stages.model.trained import WEIGHTS, save_trained
from stages.train.checkpoint import StopSignals, Store, fingerprint
from stages.train.distributed import World, local_rank, process_group
from stages.train.environment import environment, peak_memory_mb
from stages.train.extensions import Extensions, load_extensions, try_augment, try_loss
from stages.train.loader import Loader
from stages.train.loop import Run, fit
from stages.train.params import TrainParams
from stages.train.start import features_of, require_epochs, start
from stages.train.state import TrainingState
from stages.train.torch_errors import as_user_errors, require_compiler

METRICS = Path("metrics/train.json")
RUN = Path("metrics/run.json")
ENVIRONMENT = Path("metrics/environment.json")


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.train", description="Stage 2: train on prepared/ and write the best model to models/."
    ).parse_args()
    started_at = time.perf_counter()
    params = load(TrainParams)
    runtime = setup(params, local_rank(), compiled=params.compile)
    if params.compile:
        require_compiler(runtime.device)
    with process_group(runtime.device) as world, as_user_errors(params, runtime.precision):
        train(params, runtime, world, started_at)


def train(params: TrainParams, runtime: Runtime, world: World, started_at: float) -> None:
    """All of the stage, on each rank; rank 0 writes."""
    info = load_info()
    pretrained = read_pretrained(params.weights) if params.weights else None
    if pretrained:
        mean, std = pretrained.constants(info.channels)
        info = replace(info, mean=mean, std=std)
    train_split, val_split = (Split.load(name, info, runtime.device) for name in ("train", "val"))
    extensions = load_extensions(params)
    try_extensions(extensions, train_split, params.batch_size, len(info.classes))
    initial = start(params, info, pretrained, runtime)
    train_split, val_split = (features_of(initial, split, params, runtime) for split in (train_split, val_split))
    loader = Loader(train_split, params, world, extensions.augment)
    require_enough_images(loader, initial.trained, world, params.accumulate)
    steps = params.steps or params.epochs * loader.steps_per_epoch
    require_epochs(params, math.ceil(steps / loader.steps_per_epoch))
    processes = f", {world.size} processes" if world.size > 1 else ""
    print(
        f"train: {params.model}, {sum(p.numel() for p in initial.trained.parameters()):,} parameters"
        f"{f', from {params.weights}' if params.weights else ''}, on {runtime}{processes}"
        f"{', compiled' if params.compile else ''}; {len(train_split)} train images, {train_split.placement}, and "
        f"{len(val_split)} val images; {steps} steps, {loader.steps_per_epoch} an epoch",
        flush=True,
    )

    record = environment(runtime, world.size)
    store = Store(fingerprint({"params": params.model_dump(), "data": read_dataset(), "environment": record}))
    state = TrainingState(initial.trained, params, runtime, world, initial.new_layer)
    with contextlib.ExitStack() as stack:
        if world.is_main:
            require_writable(WEIGHTS, METRICS)
            stack.enter_context(store.locked())
        stop_signals = stack.enter_context(StopSignals())
        if saved := world.broadcast_object(store.load() if world.is_main else None):
            state.restore(saved)
            print(f"  resumed from epoch {state.epoch}, step {state.step} of {store.folder}", flush=True)
        class_weights = balanced_weights(train_split.labels, info.classes) if params.balance == "loss" else None
        run = Run(params, runtime, world, store, stop_signals, steps, extensions.loss, class_weights)
        fit(state, loader, val_split, run)
        require_modules_listed()
        if world.is_main:
            best = state.best
            save_trained(
                initial.whole(state.best_weights),
                info,
                params.model_dump(),
                int(best["epoch"]),
                best["val_accuracy"],
                pretrained,
            )
            write_metrics(best)
            write_json(ENVIRONMENT, record)
            write_json(
                RUN,
                {
                    "training_seconds": round(state.seconds, 2),
                    "images_per_second": round(state.total_steps * loader.batch_size / state.step_seconds),
                    "total_seconds": round(time.perf_counter() - started_at, 2),
                    "resumed": state.resumed,
                    **({"shards_from": streaming.origin()} if train_split.sharded and streaming.origin() else {}),
                    **peak_memory_mb(runtime.device),
                },
            )
        print(f"  best epoch {state.best['epoch']}: val accuracy {state.best['val_accuracy']:.4f} → {WEIGHTS}")
        warn_of_majority(state.best["val_accuracy"], val_split.labels, info.classes)
        sys.stdout.flush()
        if world.is_main:
            # Last: where anything before fails, the same command goes on from the end of training.
            store.clear()


def try_extensions(extensions: Extensions, split: Split, batch_size: int, classes: int) -> None:
    """Call own augmentation and loss once, on the first images: UserError where one cannot be trained with."""
    if extensions.augment:
        (rows,) = split.rows([slice(0, batch_size)])
        try_augment(extensions.augment, split.seen(rows))
    if extensions.loss:
        try_loss(extensions.loss, classes, split.device)


def balanced_weights(labels: torch.Tensor, classes: list[str]) -> torch.Tensor:
    """For each class the inverse of its frequency, 1 on average over all images (scikit-learn's "balanced").

    UserError where a class has no image.
    """
    counts = labels.bincount(minlength=len(classes))
    if absent := [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]:
        raise UserError(
            f"balance: loss: no train image of {escape.terminal(', '.join(absent))}, so its weight would have no end. "
            "`dvc repro prepare` makes splits with every class, or says which images are missing."
        )
    return (len(labels) / (len(counts) * counts.double())).float()


def warn_of_majority(accuracy: float, labels: torch.Tensor, classes: list[str]) -> None:
    """Say so where a model that names the largest class for every image would be right as often."""
    counts = labels.bincount()
    share = float(counts.max()) / len(labels)
    if accuracy <= share:
        print(
            f"  warning: no better than naming {escape.terminal(classes[int(counts.argmax())])}, the largest class, "
            f"for every val image ({share:.4f}). Start from pretrained weights (docs/photos.md), train longer, or "
            "change lr."
        )


def require_enough_images(loader: Loader, model: nn.Module, world: World, parts: int) -> None:
    """UserError where a rank would get no image, or a single one, of which batch normalisation knows no variance."""
    normalises = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    fewest = loader.batch_size // world.size // parts
    if fewest < 1 + normalises:
        in_parts = f" and {parts} parts (accumulate)" if parts > 1 else ""
        raise UserError(
            f"batch_size: expected {1 + normalises} or more images for each of {world.size} processes{in_parts}"
            f"{', because the model normalises over a batch' if normalises else ''}; got {loader.batch_size} in all. "
            "Raise batch_size in params.yaml, or give data/ more images."
        )


def write_metrics(best: dict[str, float]) -> None:
    """Write the chosen epoch's figures."""
    figures = {("best_epoch" if name == "epoch" else name): value for name, value in best.items() if name != "lr"}
    write_json(METRICS, {name: round(value, 6) for name, value in figures.items()})


if __name__ == "__main__":
    run_main(main)
