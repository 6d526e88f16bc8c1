"""Portable arithmetic holds in the process that computes, and where it cannot hold, that is said."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.common import arithmetic
from stages.common.errors import UserError
from stages.common.params import load
from stages.evaluate.params import EvaluateParams
from stages.model import runtime
from tests.project import ROOT, edit_params, user_environment

VARIABLES = {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"}
SET_UP = """
import json, os, stages, numpy, torch
from stages.train.environment import environment
from stages.common.params import load
from stages.evaluate.params import EvaluateParams
from stages.model.runtime import setup
{before}
runtime = setup(load(EvaluateParams))
features = numpy._core._multiarray_umath.__cpu_features__
print(json.dumps({{"words": str(runtime), "numpy_avx512": features["X86_V4"], **environment(runtime)}}))
"""


def fresh_process(folder: Path, before: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """`setup` on the CPU in a process of its own, whose environment has none of the variables but those given."""
    edit_params(folder, device="cpu")
    clean = {name: value for name, value in user_environment().items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-c", SET_UP.format(before=before)],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )


def record_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


needs_avx2 = pytest.mark.skipif(bool(arithmetic.why_not_portable()), reason=f"{arithmetic.why_not_portable()}")


@needs_avx2
@pytest.mark.slow
def test_portable_holds_and_is_recorded(workspace: Path) -> None:
    record = record_of(fresh_process(workspace))
    assert (record["arithmetic"], record["cpu_capability"]) == ("portable", "AVX2")
    assert record["numpy_avx512"] is False
    assert record["variables"].keys() == VARIABLES
    assert record["cpu_vendor"] == arithmetic.cpu_info("vendor_id") != ""
    assert "portable arithmetic, channels_last" in record["words"]


@needs_avx2
@pytest.mark.slow
def test_other_values_of_the_user_are_replaced_and_named(workspace: Path) -> None:
    record = record_of(fresh_process(workspace, MKL_CBWR="AVX2", OPENBLAS_CORETYPE="Nehalem"))
    assert record["variables"]["MKL_CBWR"] == "COMPATIBLE"
    assert "in place of the environment's OPENBLAS_CORETYPE=Nehalem, MKL_CBWR=AVX2" in record["words"]


@needs_avx2
@pytest.mark.slow
def test_native_leaves_pytorch_as_it_is(workspace: Path) -> None:
    """PyTorch's own choice, or the user's."""
    edit_params(workspace, cpu_arithmetic="native")
    bare = [sys.executable, "-c", "import torch; print(torch.backends.cpu.get_cpu_capability())"]
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    own = subprocess.run(bare, env=clean, capture_output=True, text=True, check=True).stdout.strip()
    record = record_of(fresh_process(workspace))
    assert (record["arithmetic"], record["cpu_capability"]) == ("native", own)
    assert record["variables"].keys() == {"NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"}
    assert record_of(fresh_process(workspace, ATEN_CPU_CAPABILITY="default"))["cpu_capability"] == "DEFAULT"


@needs_avx2
@pytest.mark.slow
def test_an_operation_before_the_choice_is_refused(workspace: Path) -> None:
    """MKL has then chosen its kernels, on every CPU."""
    done = fresh_process(workspace, "torch.ones(9, 9) @ torch.ones(9, 9)")
    assert done.returncode
    assert "portable comes too late in this process: " in done.stderr
    assert "MKL with branch" in done.stderr


@pytest.mark.parametrize(
    ("changes", "compiled", "words"),
    [
        ({"precision": "bf16"}, False, "native arithmetic (only fp32 is portable, not bf16)"),
        ({}, True, "native arithmetic (torch.compile generates kernels for this CPU)"),
    ],
)
def test_what_is_not_portable_is_native_and_says_why(
    workspace: Path, changes: dict[str, str], compiled: bool, words: str
) -> None:
    edit_params(workspace, device="cpu", **changes)
    chosen = runtime.setup(load(EvaluateParams), compiled=compiled)
    assert chosen.arithmetic == "native"
    assert words in str(chosen)


@pytest.mark.parametrize("reason", ["aarch64 is not x86-64", "this CPU has no AVX2"])
def test_a_cpu_without_avx2(workspace: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Another CPU than this one cannot be had."""
    monkeypatch.setattr(arithmetic, "why_not_portable", lambda: reason)
    edit_params(workspace, device="cpu")
    chosen = runtime.setup(load(EvaluateParams))
    assert chosen.arithmetic == "native"
    assert f"native arithmetic ({reason}, so its bytes are not those of other machines)" in str(chosen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_portable_has_no_say_on_a_gpu(workspace: Path) -> None:
    edit_params(workspace, device="cuda")
    assert "native arithmetic (cpu_arithmetic concerns CPUs only)" in str(runtime.setup(load(EvaluateParams)))


def test_all_of_numpys_kernels_beyond_avx2_are_off() -> None:
    """A NumPy with further ones needs their names in arithmetic.py."""
    dispatched = np._core._multiarray_umath.__cpu_dispatch__  # type: ignore[attr-defined]
    off = arithmetic._NUMPY["NPY_DISABLE_CPU_FEATURES"].split()
    assert set(dispatched) - {"X86_V3"} == set(off)


def test_numpy_with_avx512_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook has it that imports NumPy before stages, on a CPU with AVX-512."""
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    monkeypatch.setitem(features, "X86_V4", True)
    with pytest.raises(UserError, match="Import `stages` before NumPy"):
        arithmetic.require_portable()
