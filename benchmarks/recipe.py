"""What a recipe reaches: `.venv/bin/python -m benchmarks.recipe configs/cifar10-cpu.yaml [--seeds 3]`.

Prepares the JPEG copy of CIFAR-10, trains under seed 0, 1, ... and claims, each as a process of its own, as in DVC.
Printed per seed: test accuracy, training clock (validation included, process start not), wall time of the process.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.cifar import prepare_cifar, run_stage, write_params


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipe", description="Train a params file on CIFAR-10 (JPEG copy), seed by seed."
    )
    parser.add_argument("recipe", type=Path, help="a params file, such as configs/cifar10-cpu.yaml")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default: 3)")
    parser.add_argument("--launcher", default="", help="command that starts train (default: this Python)")
    arguments = parser.parse_args()
    accuracies, clocks, walls = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_cifar(folder, arguments.recipe)
        for seed in range(arguments.seeds):
            write_params(folder, arguments.recipe, seed=seed)
            started = time.perf_counter()
            printed = run_stage(folder, "train", *arguments.launcher.split())
            walls.append(time.perf_counter() - started)
            if seed == 0:
                print(printed.splitlines()[0], flush=True)
            run_stage(folder, "evaluate.claim")
            accuracies.append(json.loads((folder / "claim/test.json").read_text())["accuracy"])
            run = json.loads((folder / "metrics/run.json").read_text())
            clocks.append(run["training_seconds"])
            print(
                f"seed {seed}: test accuracy {accuracies[-1]:.4f}, training clock {clocks[-1]:.0f} s, process "
                f"{walls[-1]:.0f} s, {run['images_per_second']} images/s",
                flush=True,
            )
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    print(
        f"{arguments.recipe}: test accuracy {statistics.mean(accuracies):.4f}{spread} (JPEG copy), mean of "
        f"{len(accuracies)} seeds; training clock {statistics.mean(clocks):.0f} s, process "
        f"{statistics.mean(walls):.0f} s"
    )


if __name__ == "__main__":
    main()
