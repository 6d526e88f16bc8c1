"""What pretrained weights do for photos: `.venv/bin/python -m benchmarks.photos [PART ...]`.

Photos: 244 of ants and bees to train, of which 20 % are the test split, and 153 to validate; weights: a small ImageNet
network (shared/data). Transfer: the JPEG copy of CIFAR-10.

recipes   val accuracy (of the chosen epoch, and of the last), test accuracy and seconds of configs/photos-cpu.yaml,
          photos-gpu.yaml, and of the latter's architecture untrained for as many epochs as take the former's time
balance   balanced val accuracy with one ant to ten bees in train, for each value of `balance`
transfer  resnet9 learns eight classes, then the other two of 50 images each, and these from scratch
features  seconds of training the head on features ÷ by a forward pass in each epoch
compute   images/s of training all layers, untrained, ÷ the limit: same model, loss and optimizer on a constant batch
"""

import argparse
import json
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cifar import ARCHIVE, run_stage, write_params
from benchmarks.startup import ROOT, spread
from benchmarks.train import limit, ratios, trainer
from scripts.published_weights import from_file, from_project
from stages.common import arithmetic
from stages.common.params import load
from stages.model.dataset import Split, load_info
from stages.model.pretrained import FOLDER, write_pretrained
from stages.model.runtime import cpu_name, setup
from stages.train.params import TrainParams

SHARED = ROOT.parent / "shared" / "data"
ARCHITECTURE = "timm/tf_efficientnet_lite0"
CPU, GPU, CIFAR = (ROOT / "configs" / f"{name}.yaml" for name in ("photos-cpu", "photos-gpu", "cifar10-cpu"))
TUNED: dict[str, Any] = {"freeze_epochs": 5, "backbone_lr": 0.1}
UNTRAINED: dict[str, Any] = {"weights": "", "freeze_epochs": 0, "backbone_lr": 1, "epochs": 1}


def main() -> None:
    parts: dict[str, Callable[[Path, int], None]] = {
        "recipes": recipes,
        "balance": balance,
        "transfer": transfer,
        "features": features,
        "compute": compute,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description="Pretrained weights on photos.")
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help=f"which of {', '.join(parts)} (default: all)")
    parser.add_argument(
        "--seeds", type=int, default=3, help="seeds, from 0, or rounds of features and compute (default: 3)"
    )
    arguments = parser.parse_args()
    arithmetic.use_portable_torch()  # before PyTorch's first operation
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {arguments.seeds} seeds", flush=True)
    for part in arguments.parts or parts:
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            parts[part](Path(name), arguments.seeds)
            os.chdir(ROOT)


def photos(folder: Path) -> str:
    """Put the photos and the weights into `folder`; return the name of the weights."""
    with tarfile.open(SHARED / "ants-bees.tar") as tar:
        tar.extractall(folder / "data", filter="data")
    published = from_file(SHARED / "tf_efficientnet_lite0.safetensors", ARCHITECTURE, "")
    return write_pretrained(published.tensors, published.origin, published.label, folder / FOLDER)


def measure(folder: Path, title: str, recipe: Path, seeds: int, figure: str = "accuracy", **changes: Any) -> None:
    """Train, evaluate and claim under each seed, from prepared arrays on; print means and standard deviations."""
    chosen, last, test, seconds = [], [], [], []
    for seed in range(seeds):
        write_params(folder, recipe, seed=seed, on_corrupt="quarantine", **changes)
        started = time.perf_counter()
        run_stage(folder, "train")
        run_stage(folder, "evaluate")
        seconds.append(time.perf_counter() - started)
        run_stage(folder, "evaluate.claim")
        chosen.append(json.loads((folder / "metrics/evaluate.json").read_text())[figure])
        test.append(json.loads((folder / "claim/test.json").read_text())[figure])
        last.append(float((folder / "plots/curves.csv").read_text().split()[-1].split(",")[-1]))
    columns = {f"val {figure}": chosen, "val accuracy, last epoch": last, f"test {figure}": test}
    print(
        f"{title}: {'; '.join(f'{name} {mean_sd(values)}' for name, values in columns.items())}; train and evaluate "
        f"{statistics.mean(seconds):.0f} s",
        flush=True,
    )


def mean_sd(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def recipes(folder: Path, seeds: int) -> None:
    weights = photos(folder)
    write_params(folder, CPU, on_corrupt="quarantine")
    run_stage(folder, "prepare")
    measure(folder, "photos-cpu", CPU, seeds, weights=weights)
    measure(folder, "photos-cpu, native", CPU, seeds, weights=weights, cpu_arithmetic="native")
    measure(folder, "untrained, 1 epoch", GPU, seeds, **UNTRAINED)
    measure(folder, "photos-gpu", GPU, seeds, weights=weights)


def balance(folder: Path, seeds: int) -> None:
    weights = photos(folder)
    # Sorted, so that the choice can be made again.
    for path in sorted((folder / "data/train/ants").iterdir())[12:]:
        path.unlink()
    write_params(folder, CPU, on_corrupt="quarantine")
    run_stage(folder, "prepare")
    for value in ("none", "loss", "sampling"):
        measure(folder, f"balance: {value}", CPU, seeds, "balanced_accuracy", weights=weights, balance=value)


def transfer(folder: Path, seeds: int) -> None:
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder / "all", filter="data")
    few = ("cat", "ship")
    for split in ("train", "test"):
        for path in sorted((folder / "all" / split).iterdir()):
            target = folder / ("few" if path.name in few else "many") / "data" / split / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    for path in (path for name in few for path in sorted((folder / f"few/data/train/{name}").iterdir())[60:]):
        path.unlink()
    many, small = folder / "many", folder / "few"
    write_params(many, CIFAR, val_fraction=0.05)
    for stage in ("prepare", "train"):
        run_stage(many, stage)
    published = from_project(many / "models", "resnet9", "own")
    weights = write_pretrained(published.tensors, published.origin, "resnet9", small / FOLDER)
    changes: dict[str, Any] = {"batch_size": 25, "epochs": 40, "lr": 0.02, "val_fraction": 0.17}
    write_params(small, CIFAR, **changes)
    run_stage(small, "prepare")
    os.chdir(small)
    measure(small, "two classes of 50 images, from scratch", CIFAR, seeds, **changes)
    tuned: dict[str, Any] = {"weights": weights, "freeze_epochs": 5, "backbone_lr": 0.1}
    measure(small, "two classes of 50 images, from eight others", CIFAR, seeds, **changes, **tuned)
    measure(
        small, "the same, the head alone", CIFAR, seeds, **changes, weights=weights, fine_tune="head", crop_padding=0
    )


def features(folder: Path, rounds: int) -> None:
    weights = photos(folder)
    write_params(folder, CPU, on_corrupt="quarantine")
    run_stage(folder, "prepare")
    once: list[float] = []
    each: list[float] = []
    frozen = {"fine_tune": "all", "freeze_epochs": 20, "epochs": 21}
    for _ in range(rounds):
        for measured, changes in ((once, {}), (each, frozen)):
            write_params(folder, CPU, on_corrupt="quarantine", weights=weights, **changes)
            shutil.rmtree(folder / ".dvc", ignore_errors=True)
            started = time.perf_counter()
            run_stage(folder, "train")
            measured.append(time.perf_counter() - started)
    print(f"20 epochs of the head, s: on features {spread(once)}; ÷ a pass in each epoch {spread(ratios(once, each))}")


def compute(folder: Path, rounds: int) -> None:
    photos(folder)
    write_params(folder, GPU, on_corrupt="quarantine", weights="", freeze_epochs=0, backbone_lr=1)
    run_stage(folder, "prepare")
    params = load(TrainParams)
    runtime, info = setup(params), load_info()
    split = Split.load("train", info, runtime.device)
    contestants = {"train": trainer(params, runtime, info, split), "limit": limit(params, runtime, info, split)}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for go in contestants.values():
        go(1)
    for _ in range(4 * rounds):
        for name, go in contestants.items():
            seconds[name].append(go(2))
    share = spread(ratios(seconds["limit"], seconds["train"]))
    print(f"all layers at {info.image_size} px, images/s of train ÷ limit: {share}")


if __name__ == "__main__":
    main()
