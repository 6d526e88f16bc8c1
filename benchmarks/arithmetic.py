"""What portable arithmetic costs: `.venv/bin/python -m benchmarks.arithmetic [--rounds 5]`.

Training steps (forward, backward, optimizer) on a constant batch in fp32, in processes of their own, since a process
computes in one arithmetic: portable and native take turns. Printed for each model: images/s of both and, round by
round, seconds of a portable step ÷ seconds of a native one; medians, with the smallest and the largest in brackets.
"""

import argparse
import subprocess
import sys
import time
from typing import NamedTuple

import torch
from torch.nn import functional as F

from benchmarks.startup import ROOT, spread
from stages.common.params import load
from stages.model.architectures import build_model, to_device
from stages.model.runtime import cpu_name, setup
from stages.train.optimizer import build_optimizer
from stages.train.params import TrainParams

SECONDS = 4.0


class Case(NamedTuple):
    """A model by its name, the side of its images in pixels, their channels, and the batch size."""

    model: str
    side: int
    channels: int
    batch_size: int


CASES = {
    "the sample": Case("resnet9", 8, 1, 64),
    "resnet9, 32 px": Case("resnet9", 32, 3, 128),
    "resnet18, 32 px": Case("resnet18", 32, 3, 64),
    "mobilenet_v3_small, 64 px": Case("mobilenet_v3_small", 64, 3, 64),
    "vit_b_32, 64 px": Case("vit_b_32", 64, 3, 16),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.arithmetic", description="What portable arithmetic costs."
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "ARITHMETIC"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        case, arithmetic = arguments.measure
        print(images_per_second(CASES[case], arithmetic))
        return
    print(f"{cpu_name()}, {arguments.rounds} rounds")
    for name in CASES:
        rates: dict[str, list[float]] = {"portable": [], "native": []}
        for _ in range(arguments.rounds):
            for arithmetic, measured in rates.items():
                command = [sys.executable, "-m", "benchmarks.arithmetic", "--measure", name, arithmetic]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                measured.append(float(done.stdout))
        ratios = [native / portable for portable, native in zip(rates["portable"], rates["native"], strict=True)]
        print(
            f"{name}: portable {spread(rates['portable'])} images/s, native {spread(rates['native'])}; "
            f"portable ÷ native seconds {spread(ratios)}",
            flush=True,
        )


def images_per_second(case: Case, arithmetic: str) -> float:
    """Of training steps in this process, which must not have computed anything before."""
    params = load(TrainParams).model_copy(
        update={"cpu_arithmetic": arithmetic, "device": "cpu", "precision": "fp32", "lr": 1e-4, "threads": 2}
    )
    setup(params)
    model = build_model(case.model, num_classes=10, channels=case.channels, image_size=case.side)
    to_device(model, torch.device("cpu")).train()
    optimizer = build_optimizer(model, params)
    images = torch.randn(case.batch_size, case.channels, case.side, case.side)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(case.batch_size) % 10

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for _ in range(3):
        step()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        step()
        steps += 1
    return steps * case.batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
