"""The optimizer is the one that params.yaml describes, with or without a restart, and schedules are PyTorch's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from stages.common.params import load
from stages.train.optimizer import (
    build_optimizer,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    set_lr,
)
from stages.train.params import TrainParams


@pytest.fixture
def params(workspace: Path) -> TrainParams:
    return load(TrainParams).model_copy(update={"weight_decay": 0.1, "lr": 0.05})


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def backward(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 4, generator=generator)
    F.cross_entropy(model(inputs), torch.randint(0, 3, (16,), generator=generator)).backward()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_params_reach_the_optimizer(params: TrainParams, name: str, momentum: float) -> None:
    """Its steps are those of one that is not fused, with weight decay on the two weight matrices alone."""
    params = params.model_copy(update={"optimizer": name, "momentum": momentum})
    ours, theirs = small_model(), small_model()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in theirs.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    assert [len(group["params"]) for group in groups] == [2, 3]
    reference: torch.optim.Optimizer = (
        torch.optim.SGD(groups, lr=0.03, momentum=momentum, nesterov=momentum > 0)
        if name == "sgd"
        else torch.optim.AdamW(groups, lr=0.03, betas=(momentum, 0.999))
    )
    optimizer = build_optimizer(ours, params)
    set_lr(optimizer, 0.03)
    for step in range(5):
        for model, its in ((ours, optimizer), (theirs, reference)):
            its.zero_grad()
            backward(model, step)
            its.step()
    for one, other in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_first_step_that_the_scaler_skips(params: TrainParams, name: str) -> None:
    """As in fp16, whose scale is too large at first: the next steps are as if it had not been."""
    params = params.model_copy(update={"optimizer": name})
    skipped, expected = small_model(), small_model()
    for model in (skipped, expected):
        optimizer = build_optimizer(model, params)
        if model is skipped:
            backward(model, 0)
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.fill_(torch.inf)
            # What GradScaler sets for the time of a step.
            optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
        for step in range(2):
            optimizer.zero_grad()
            backward(model, step)
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(weights(skipped), weights(expected), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_tensors_restore_an_optimizer(params: TrainParams, name: str) -> None:
    """Three steps, or two, a restart and one: the same weights."""
    params = params.model_copy(update={"optimizer": name})
    model = small_model()
    optimizer = build_optimizer(model, params)
    for step in range(2):
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()
    restarted = small_model()
    restarted.load_state_dict(model.state_dict())
    other = build_optimizer(restarted, params)
    load_optimizer_tensors(other, {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()})
    for copy, its in ((model, optimizer), (restarted, other)):
        its.zero_grad()
        backward(copy, 2)
        its.step()
    assert all(torch.equal(one, two) for one, two in zip(weights(model), weights(restarted), strict=True))


def rates(params: TrainParams, steps: int, **changes: Any) -> list[float]:
    params = params.model_copy(update={"lr": 0.08, "warmup": 0.25} | changes)
    return [learning_rate(params, step, steps) for step in range(steps)]


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.05, 0.3, 0.95])
def test_one_cycle_is_pytorchs(params: TrainParams, steps: int, warmup: float) -> None:
    if warmup * (steps + 1) <= 1:
        pytest.skip("there PyTorch's first phase has no or negative length")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    schedule = OneCycleLR(optimizer, 0.08, total_steps=steps + 1, pct_start=warmup, cycle_momentum=False)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(params, steps, warmup=warmup) == pytest.approx(expected)


def test_cosine_and_constant(params: TrainParams) -> None:
    """In a line up to the peak in a quarter of 100 steps; then along a cosine to nearly zero, or on and on."""
    cosine, constant = (rates(params, 100, schedule=schedule) for schedule in ("cosine", "constant"))
    assert cosine[:25] == constant[:25]
    assert constant[0] == pytest.approx(0.08 / 26)
    assert constant[24] - constant[23] == pytest.approx(0.08 / 26)
    assert set(constant[25:]) == {0.08}
    assert cosine[25] == 0.08
    assert cosine[62] + cosine[63] == pytest.approx(0.08, rel=0.01)
    assert 0 < cosine[99] < 0.0001


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.95])
def test_the_shortest_schedules(params: TrainParams, schedule: str, steps: int, warmup: float) -> None:
    assert all(0 < rate <= 0.08 for rate in rates(params, steps, schedule=schedule, warmup=warmup))
