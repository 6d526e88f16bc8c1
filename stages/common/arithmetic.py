"""Portable arithmetic: the same bytes on every x86-64 CPU with AVX2, Intel or AMD, with or without AVX-512.

The libraries below PyTorch and NumPy choose their kernels by the CPU that they find, and kernels differ in the order of
their sums and in their approximations. Environment variables restrict each library to one set of kernels:

ATEN_CPU_CAPABILITY       PyTorch's own kernels
ONEDNN_MAX_CPU_ISA        convolutions
MKL_CBWR                  matrix products and vector functions; its other settings keep a difference between makers
NPY_DISABLE_CPU_FEATURES  NumPy's loops: all beyond AVX2 (X86_V3)
OPENBLAS_CORETYPE         NumPy's and SciPy's matrix products

Left as they are: torch.sqrt, acos, asin and atan, and torch.pow(0.5), which MKL computes from the maker's own
approximation (`rsqrtps`). Nothing that decides a result may use them on a CPU.
"""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

from stages.common.errors import UserError

# Read when NumPy is imported, so set when `stages` is: NumPy's part of the time is small, whatever the params say.
_NUMPY = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR", "OPENBLAS_CORETYPE": "Haswell"}
# Read at the first operation, so set by `use_portable_torch` before it, and only for portable arithmetic.
_TORCH = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
VARIABLES = (*_TORCH, *_NUMPY)
# mkl_cbwr_get(MKL_CBWR_BRANCH) = MKL_CBWR_COMPATIBLE, of mkl_types.h.
_MKL_BRANCH, _MKL_COMPATIBLE = 1, 3
# What other values the environment had; for the log.
replaced: dict[str, str] = {}


def use_portable_numpy() -> None:
    """Restrict NumPy to the kernels for AVX2; before it is imported. Does nothing on a CPU without AVX2."""
    if not why_not_portable():
        _set(_NUMPY)


def use_portable_torch() -> None:
    """Restrict PyTorch to the kernels for AVX2; before its first operation. Does nothing on a CPU without AVX2."""
    if not why_not_portable():
        _set(_TORCH)


def require_portable() -> None:
    """UserError where NumPy's import or an operation of PyTorch came before the variables, and chose other kernels."""
    import numpy
    import torch

    late = []
    if (capability := torch.backends.cpu.get_cpu_capability()) != "AVX2":
        late.append(f"PyTorch computes with {capability}")
    if _mkl_branch() not in (None, _MKL_COMPATIBLE):
        late.append(f"MKL with branch {_mkl_branch()}")
    if numpy._core._multiarray_umath.__cpu_features__["X86_V4"]:  # type: ignore[attr-defined]  # not in its stub
        late.append("NumPy with AVX-512")
    if late:
        raise UserError(
            f"cpu_arithmetic: portable comes too late in this process: {'; '.join(late)}. Import `stages` before "
            "NumPy, and call `stages.model.runtime.setup` before PyTorch's first operation, or set "
            "`cpu_arithmetic: native`."
        )


@cache
def why_not_portable() -> str:
    """Why this machine's CPU cannot give the bytes of others; an empty text where it can."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return f"{machine} is not x86-64"
    return "" if {"avx2", "fma"} <= set(cpu_info("flags").split()) else "this CPU has no AVX2"


@cache
def cpu_info(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo, such as `model name`; an empty text where there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    except OSError:
        pass  # /proc is Linux's
    return ""


def _set(wanted: dict[str, str]) -> None:
    for name, value in wanted.items():
        before = os.environ.get(name)
        if before not in (None, value):
            replaced[name] = before
        os.environ[name] = value


def _mkl_branch() -> int | None:
    """The branch of MKL's conditional numerical reproducibility that is in force; None where PyTorch was built without
    MKL, or does not export the function."""
    import torch

    library = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
    get_branch = getattr(library, "mkl_serv_cbwr_get", None)
    return None if get_branch is None else int(get_branch(_MKL_BRANCH))
