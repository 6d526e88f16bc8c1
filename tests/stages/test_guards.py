"""Losses that are not finite are seen before the weights are, and PyTorch's errors get words."""

from pathlib import Path

import pytest
import torch

from stages.errors import UserError
from stages.guards import FiniteLoss, explained
from stages.params import TrainParams, load
from stages.processes import Processes


@pytest.fixture
def params(workspace: Path) -> TrainParams:
    return load(TrainParams)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_bad_step_is_remembered(value: float) -> None:
    guard = FiniteLoss(torch.device("cpu"), Processes())
    for step, loss in enumerate([0.5, 1e30, value, 0.5, torch.nan]):
        guard.watch(torch.tensor(loss))
        guard.settle(step)
        assert guard.first_bad == (2 if step >= 2 else None)
        assert guard.halt.item() == (step >= 2)


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
        explained(params, "fp32"),
    ):
        raise error
    with pytest.raises(UserError, match=r"precision bf16 .*Try batch_size 32\.$"), explained(params, "bf16"):
        raise error


def test_an_operation_in_no_fixed_order(params: TrainParams) -> None:
    """PyTorch's own error of such an operation, not one that looks like it."""
    torch.set_deterministic_debug_mode("error")
    with pytest.raises(UserError, match=r"needs put_, which .* `deterministic: false`"), explained(params, "fp32"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_other_errors_keep_their_traceback(params: TrainParams) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), explained(params, "fp32"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
