"""PyTorch's errors that a param can mend name it; others keep their traceback."""

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


def test_triton_needs_a_c_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(UserError, match=r"no C and C\+\+ compiler here \(neither CC .*set `compile: false`"):
        require_compiler()
    monkeypatch.setenv("CC", "/opt/cc")
    require_compiler()
    monkeypatch.delenv("CC")
    (tmp_path / "clang").touch(mode=0o700)
    require_compiler()
