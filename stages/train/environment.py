"""The record of what a result was made with: versions, hardware, and the settings that decide the last digits."""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
from typing import Any

import torch

from stages.common import arithmetic
from stages.common.errors import run_main
from stages.common.params import load
from stages.model.runtime import Runtime, cpu_name, setup
from stages.train.params import TrainParams

_RECORDED_PACKAGES = ("numpy", "pillow", "safetensors", "torch", "torchvision")


def environment(runtime: Runtime, processes: int = 1) -> dict[str, Any]:
    """What metrics/environment.json records."""
    device = runtime.device
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        "cpu": cpu_name(),
        "cpu_vendor": arithmetic.cpu_info("vendor_id"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": runtime.precision,
        "arithmetic": runtime.arithmetic,
        # Hold the libraries to certain kernels.
        "variables": {name: os.environ[name] for name in arithmetic.VARIABLES if name in os.environ},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    # What the image's Dockerfile says that it is called.
    if image := os.environ.get("PROJECT_IMAGE"):
        record["image"] = image
    if device.type == "cuda":
        record |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver_version(),
        }
    return record


def main() -> None:
    """Print the record as JSON, for the params in the current folder."""
    argparse.ArgumentParser(
        prog="python -m stages.train.environment", description="What a run here would be made with, as JSON."
    ).parse_args()
    print(json.dumps(environment(setup(load(TrainParams))), indent=2))


def peak_memory_mb(device: torch.device) -> dict[str, int]:
    """Largest resident memory of this process and, on a GPU, largest allocation there; in MB of 10^6 bytes."""
    import resource

    # ru_maxrss counts kilobytes on Linux and bytes on macOS.
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)}
    if device.type == "cuda":
        peak["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return peak


def _driver_version() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(
            query, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=30
        ).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__} from nvidia-smi)"


if __name__ == "__main__":
    run_main(main)
