"""The JPEG copy of CIFAR-10 as prepared arrays, for benchmarks of what comes after prepare."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from benchmarks.startup import ROOT
from stages.common.documents import parse_yaml
from stages.common.yaml12 import dump_yaml

ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"


def prepare_cifar(folder: Path, recipe: Path) -> None:
    """Put data/, params.yaml as `recipe` says, and prepared/ into `folder`."""
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder / "data", filter="data")
    write_params(folder, recipe)
    run_stage(folder, "prepare")


def write_params(folder: Path, recipe: Path, **changes: Any) -> None:
    """Write params.yaml into `folder`: `recipe` with `changes`."""
    params = parse_yaml(recipe.read_bytes()) | changes
    (folder / "params.yaml").write_text(dump_yaml(params))


def run_stage(folder: Path, stage: str, *launcher: str) -> str:
    """Run a stage in `folder`, with the code of this project; what it prints. Ends the benchmark where it fails."""
    done = subprocess.run(
        [*(launcher or (sys.executable,)), "-m", f"stages.{stage}"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"error: {stage} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def environment() -> dict[str, str]:
    """The environment in which a stage finds this project's code from any folder."""
    # Packages may lie there that are not installed.
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # What torchrun would set, with a warning, by itself.
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
