"""How the machine is used: device, threads, determinism, random streams, and the record of all that."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from stages.errors import UserError
from stages.params import RuntimeParams

_RECORDED_PACKAGES = ("numpy", "pillow", "safetensors", "torch", "torchvision")


def setup(params: RuntimeParams) -> torch.device:
    """Choose the device, fix the number of threads, make every operation deterministic; return the device.

    Raises UserError where `device: cuda` asks for a GPU that PyTorch does not see, and where a launcher has started
    several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"launcher: expected one process, got {os.environ['WORLD_SIZE']}; training on several is not supported. "
            "Set `launcher: python` in params.yaml."
        )
    if params.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device: cuda in params.yaml, but PyTorch sees no CUDA GPU here. Set `device: auto` or `device: cpu`."
        )
    # cuBLAS reads this when it is first used; without it, deterministic algorithms refuse matrix products on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The public twin of use_deterministic_algorithms(True) that does not import torch._inductor, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    # PyTorch would compute fp32 convolutions on a GPU with the 10-bit mantissa of TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(params.threads)
    use_cuda = params.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")


def describe(device: torch.device) -> str:
    """The device in words, for the log."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return f"cpu, {cpu_name()}, {torch.get_num_threads()} threads"


def seeded_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, such as ("order", epoch): independent of all others and of what ran before."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def environment(device: torch.device) -> dict[str, Any]:
    """What metrics/environment.json records: versions, hardware and the settings that decide the last digits."""
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "precision": "fp32",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cuda":
        record |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver_version(),
        }
    return record


def cpu_name() -> str:
    """The processor's model name; the architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # /proc is Linux's
    return platform.processor() or platform.machine()


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
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__} from nvidia-smi)"
