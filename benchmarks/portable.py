"""Portable arithmetic, tried: `.venv/bin/python -m benchmarks.portable [--cpu Haswell] [--recipe resnet9-sgd]`.

Runs prepare, train and evaluate on 72 generated pictures, natively and then under emulated CPUs, which have
AVX2 and no AVX-512, and compares all that was written byte for byte, but for metrics/run.json and
metrics/environment.json, which tell of speed and machine. The control is a recipe in native arithmetic: it should
differ, or this machine's CPU is too much like the emulated one to show anything.

The emulator, QEMU's user mode, executes each instruction as such a CPU would, some thousand times slower: so images are
small, steps few, and a recipe takes minutes. It needs Linux on x86-64: `apt-get install qemu-user` on Debian.
"""

import argparse
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.cifar import environment, write_params
from benchmarks.startup import ROOT
from stages.common.arithmetic import cpu_info, why_not_portable
from stages.common.files import read_json
from stages.model.architectures import build_model
from stages.model.pretrained import FOLDER, Origin, write_pretrained
from stages.model.runtime import cpu_name

EMULATOR = "qemu-x86_64"
CPUS = ("Haswell", "EPYC-Rome")
STAGES = ("prepare", "train", "evaluate")
MACHINE = ("metrics/run.json", "metrics/environment.json")
COMMON = {
    "image_size": 16,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "model": "resnet9",
    "steps": 3,
    "batch_size": 12,
    "crop_padding": 2,
    "flip": "random",
    "erasing": 0.5,
    "mixup": 0.2,
    "cutmix": 1,
    "device": "cpu",
    "precision": "fp32",
    "cpu_arithmetic": "portable",
    "threads": 1,
}
ADAMW = {"optimizer": "adamw", "lr": 0.003}
RESIZED = {"crop_padding": 0, "resized_crop": 0.3}
# Without trivial_augment: QEMU 7.2 crashes where grid_sample gathers with a mask, for what lies outside the image.
TUNED = {
    "stored_size": 20,
    "freeze_epochs": 1,
    "steps": 5,
    "backbone_lr": 0.5,
    "balance": "sampling",
    "accumulate": 2,
}
HEAD = {"fine_tune": "head", "crop_padding": 0, "erasing": 0, "mixup": 0, "cutmix": 0, "balance": "loss"}
# The smallest ViT that has a name has 88 million parameters, an hour of emulation: a smaller one takes its place.
SMALL_VIT = """
import runpy, sys, stages.model.architectures
from torchvision.models import VisionTransformer
stages.model.architectures.torchvision_classifier = lambda name, classes, channels, size: VisionTransformer(
    image_size=size, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=classes)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


class Recipe(NamedTuple):
    """What it changes of COMMON; how many processes train; code that starts a stage in place of `-m`; whether training
    starts from weights."""

    changes: dict[str, Any]
    processes: int = 1
    code: str = ""
    pretrained: bool = False


RECIPES = {
    "resnet9-sgd": Recipe({}),
    "resnet9-adamw": Recipe(ADAMW | RESIZED),
    "resnet9-clip-ema": Recipe({"image_size": 8, "clip_norm": 0.5, "ema_decay": 0.9}),
    "resnet9-2-processes": Recipe({"image_size": 8}, processes=2),
    "resnet9-tuned": Recipe(TUNED, pretrained=True),
    "resnet9-head": Recipe(HEAD, pretrained=True),
    "resnet18-sgd-2-threads": Recipe({"model": "resnet18", "image_size": 8, "threads": 2}),
    "simplenet-sgd": Recipe({"model": "simplenet", "image_size": 32, "tta_flip": True}),
    "simplenet-adamw": Recipe({"model": "simplenet", "image_size": 32, "flip": "alternating", **ADAMW, **RESIZED}),
    "mobilenet_v3_small-sgd": Recipe({"model": "mobilenet_v3_small", "image_size": 32, "tta_flip": True, **RESIZED}),
    "shufflenet_v2_x0_5-adamw": Recipe({"model": "shufflenet_v2_x0_5", "image_size": 32, **ADAMW}),
    "small-vit-adamw": Recipe({"model": "vit_b_32", "image_size": 32, **ADAMW, **RESIZED}, code=SMALL_VIT),
}
CONTROL = Recipe({"model": "simplenet", "cpu_arithmetic": "native"})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.portable", description="Compare the bytes of this CPU with those of emulated ones."
    )
    parser.add_argument("--cpu", action="append", help=f"as {EMULATOR} -cpu help lists (default: {', '.join(CPUS)})")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: each of them")
    arguments = parser.parse_args()
    cpus = arguments.cpu or CPUS
    if shutil.which(EMULATOR) is None:
        sys.exit(f"error: {EMULATOR} is not installed; on Debian: apt-get install qemu-user")
    if reason := why_not_portable():
        sys.exit(f"error: {reason}, so there is nothing to compare")
    emulator = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    print(
        f"{cpu_name()}, {cpu_info('vendor_id')}, {'with' if 'avx512f' in cpu_info('flags').split() else 'without'} "
        f"AVX-512, against emulated CPUs; torch {version('torch')}, numpy {version('numpy')}, Python "
        f"{platform.python_version()}, {EMULATOR} {emulator}",
        flush=True,
    )
    different = 0
    for name in arguments.recipe or RECIPES:
        different += compare(name, RECIPES[name], cpus)
    if not compare("control: native arithmetic", CONTROL, cpus[:1]):
        print("the control does not differ: these CPUs are too much alike to show anything")
    sys.exit(different > 0)


def compare(name: str, recipe: Recipe, cpus: Sequence[str]) -> int:
    """Print a row for each of `cpus`; how many differ."""
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        expected, kernels, problem = outputs(Path(folder, "native"), recipe)
        if problem:
            sys.exit(f"error: {name}, not emulated: {problem}")
        for cpu in cpus:
            started = time.perf_counter()
            found, found_kernels, problem = outputs(Path(folder, cpu), recipe, EMULATOR, "-cpu", cpu)
            others = sorted(file for file in expected.keys() | found.keys() if expected.get(file) != found.get(file))
            different += bool(others or problem)
            verdict = problem or (
                f"DIFFERENT {len(others)} of {len(expected)}: {', '.join(others)}"
                if others
                else f"identical {len(expected)} of {len(expected)}"
            )
            print(
                f"{name:26}  {cpu:14}  kernels {kernels} and {found_kernels:7}  {verdict}  "
                f"({time.perf_counter() - started:.0f} s)",
                flush=True,
            )
    return different


def outputs(folder: Path, recipe: Recipe, *emulator: str) -> tuple[dict[str, bytes], str, str]:
    """Run the stages in `folder`: the files that they wrote, the kernels that PyTorch took, and what went wrong."""
    write_pictures(folder / "data")
    weights = {"weights": write_weights(folder / FOLDER)} if recipe.pretrained else {}
    write_params(folder, ROOT / "configs" / "digits.yaml", **(COMMON | recipe.changes | weights))
    start = ["-c", recipe.code] if recipe.code else ["-m"]
    for stage in STAGES:
        command = [*emulator, sys.executable, *start, f"stages.{stage}"]
        if problem := run_together(folder, command, recipe.processes if stage == "train" else 1):
            return {}, "unknown", f"{stage} {problem}"
    kernels = read_json(folder / MACHINE[1], "")["cpu_capability"]
    written = {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("prepared", "models", "metrics", "plots", "reports", "predictions.csv")
        for path in [folder / part, *(folder / part).rglob("*")]
        if path.is_file()
    }
    return {name: content for name, content in written.items() if name not in MACHINE}, kernels, ""


def run_together(folder: Path, command: list[str], count: int) -> str:
    """Run `count` processes, each told its rank as by torchrun, whose own children would not be emulated. Returns what
    went wrong."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1]), "WORLD_SIZE": str(count)}
    with tempfile.TemporaryFile("w+") as log:
        processes = [
            subprocess.Popen(
                command,
                cwd=folder,
                env=environment() | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=log,
                stderr=log,
            )
            for rank in range(count)
        ]
        codes = [process.wait() for process in processes]
        log.seek(0)
        lines = [line for line in log.read().splitlines() if "TCG doesn't support requested feature" not in line]
    return f"exited with {codes}: {' / '.join(lines[-3:])}" if any(codes) else ""


def write_weights(folder: Path) -> str:
    """Weights of resnet9, drawn at random, the same each time; their name."""
    torch.manual_seed(0)
    model = build_model("resnet9", num_classes=5, channels=3, image_size=16)
    origin = Origin(
        architecture="resnet9",
        source="benchmarks.portable",
        source_sha256="0" * 64,
        licence="own",
        trained_on="nothing",
        classes=5,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        interpolation="bicubic",
        image_size=16,
        crop_share=0.8,
    )
    return write_pretrained(model.state_dict(), origin, "resnet9", folder)


def write_pictures(folder: Path) -> None:
    """Waves under noise, 24 pictures of each of three classes, in colour and not square; every other one a JPEG."""
    generator = np.random.default_rng(0)
    down, right = np.mgrid[:36, :44]
    for label, angle in {"flat": 0.1, "slanting": 0.8, "steep": 1.5}.items():
        (folder / label).mkdir(parents=True)
        for number in range(24):
            wave = np.sin((down * np.cos(angle) + right * np.sin(angle)) / 3 + generator.uniform(0, 6))
            pixels = 128 + 70 * wave[..., None] * generator.uniform(0.3, 1, 3) + generator.normal(0, 20, (36, 44, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / label / f"{number:02}.{'jpg' if number % 2 else 'png'}")


if __name__ == "__main__":
    main()
