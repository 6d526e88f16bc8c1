"""PyTorch's errors that a param can mend name it; others keep their traceback."""

import shutil
from pathlib import Path

import pytest
import torch

from stages.common.errors import UserError
from stages.common.params import load
from stages.train.params import TrainParams
from stages.train.torch_errors import as_user_errors, require_compiler


@pytest.fixture
def params(workspace: Path) -> TrainParams:
    return load(TrainParams)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("could not create a primitive"),
        MemoryError("Unable to allocate 8 bytes"),
    ],
)
def test_out_of_memory(params: TrainParams, error: Exception) -> None:
    with (
        pytest.raises(
            UserError, match=r"out of memory with simplenet, batch_size 64.*Try batch_size 32 or precision bf"
        ),
        as_user_errors(params, "fp32"),
    ):
        raise error
    with pytest.raises(UserError, match=r"precision bf16 .*Try batch_size 32\.$"), as_user_errors(params, "bf16"):
        raise error


def test_an_operation_in_no_fixed_order(params: TrainParams) -> None:
    """PyTorch's own error of such an operation, not one that looks like it."""
    torch.set_deterministic_debug_mode("error")
    with pytest.raises(UserError, match=r"needs put_, which .* `deterministic: false`"), as_user_errors(params, "fp32"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_other_errors_keep_their_traceback(params: TrainParams) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), as_user_errors(params, "fp32"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


COMPILERS = [("cuda", "CC", "clang"), ("cpu", "CXX", "g++")]


@pytest.mark.parametrize(("device", "variable", "program"), COMPILERS)
def test_a_compiler_is_found_as_pytorch_finds_it(
    device: str, variable: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    kind = torch.device(device)
    with pytest.raises(UserError, match=rf"no C and C\+\+ compiler works here \(neither {variable} is set, nor .*g"):
        require_compiler(kind)
    for name in (program, "own"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o700)
    require_compiler(kind)
    (tmp_path / program).unlink()
    monkeypatch.setenv(variable, str(tmp_path / "own"))
    require_compiler(kind)


@pytest.mark.parametrize(
    ("says", "why"),
    [("echo no linker >&2; exit 1", "/cc: no linker"), ("exit 3", "/cc: exit code 3"), (None, "/cc: No such file")],
)
def test_a_compiler_that_does_not_work(
    says: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried before the training: one that is there may lack its linker."""
    if says:
        (tmp_path / "cc").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "cc").chmod(0o700)
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    with pytest.raises(UserError, match=rf"no C and C\+\+ compiler works here .*{why}"):
        require_compiler(torch.device("cuda"))


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_a_compiler_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    require_compiler(torch.device("cpu"))
