"""The optimizer's steps are torch.optim's, its schedules torch's schedulers, and its average a moving average."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from stages.optimizer import Average, Optimizer, learning_rate
from stages.params import TrainParams, load

GO = torch.zeros(())
HALT = torch.ones(())


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
def test_steps_are_those_of_torch_optim(params: TrainParams, name: str, momentum: float) -> None:
    """With weight decay on the two weight matrices, and none on bias and norm."""
    params = params.model_copy(update={"optimizer": name, "momentum": momentum})
    ours, theirs = small_model(), small_model()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in theirs.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    assert [len(group["params"]) for group in groups] == [2, 3]
    reference: torch.optim.Optimizer = (
        torch.optim.SGD(groups, lr=0.05, momentum=momentum, nesterov=momentum > 0)
        if name == "sgd"
        else torch.optim.AdamW(groups, lr=0.05, betas=(momentum, 0.999))
    )
    optimizer = Optimizer(ours, params)
    for step in range(5):
        for model in (ours, theirs):
            model.zero_grad()
            backward(model, step)
        optimizer.step(0.05, GO)
        reference.step()
    for one, other in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_halt_changes_nothing(params: TrainParams, name: str) -> None:
    """Neither weights nor what the optimizer remembers, whatever the gradients are."""
    model = small_model()
    optimizer = Optimizer(model, params.model_copy(update={"optimizer": name}))
    backward(model, 0)
    optimizer.step(0.05, GO)
    before = [*weights(model), *(tensor.clone() for tensor in optimizer.state().values())]
    for gradient in optimizer.gradients:
        gradient.fill_(torch.nan)
    optimizer.step(0.05, HALT)
    after = [*weights(model), *optimizer.state().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_state_restores_an_optimizer(params: TrainParams, name: str) -> None:
    """Three steps, or two, a restart and one: the same weights."""
    params = params.model_copy(update={"optimizer": name})
    model = small_model()
    optimizer = Optimizer(model, params)
    for step in range(2):
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step(0.05, GO)
    restarted = small_model()
    restarted.load_state_dict(model.state_dict())
    other = Optimizer(restarted, params)
    other.restore({name: tensor.clone() for name, tensor in optimizer.state().items()})
    for copy, its in ((model, optimizer), (restarted, other)):
        its.zero_grad()
        backward(copy, 2)
        its.step(0.05, GO)
    assert all(torch.equal(one, two) for one, two in zip(weights(model), weights(restarted), strict=True))


def test_clipping(params: TrainParams) -> None:
    """All gradients together become as long as asked, in the same direction; shorter ones stay."""
    model = small_model()
    optimizer = Optimizer(model, params)
    backward(model, 0)
    before = torch.cat([gradient.flatten() for gradient in optimizer.gradients])
    optimizer.clip(float(before.norm()) * 2)
    assert torch.equal(before, torch.cat([gradient.flatten() for gradient in optimizer.gradients]))
    optimizer.clip(0.01)
    after = torch.cat([gradient.flatten() for gradient in optimizer.gradients])
    assert after.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert F.cosine_similarity(before, after, dim=0).item() == pytest.approx(1)


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


def test_average() -> None:
    """Decay (1 + step) / (10 + step) at first, 0.9 later; of batch normalisation's statistics, too."""
    model = small_model()
    average = Average(model, 0.9)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    assert "1.running_mean" in expected
    assert "1.num_batches_tracked" not in expected
    for step in range(120):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(0.1)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if name in expected:
                expected[name] = decay * expected[name] + (1 - decay) * tensor
    for name, tensor in average.state().items():
        torch.testing.assert_close(tensor, expected[name])
    raw = weights(model)
    average.swap()
    torch.testing.assert_close(model.state_dict()["0.weight"], expected["0.weight"])
    average.swap()
    assert all(torch.equal(one, other) for one, other in zip(raw, weights(model), strict=True))
