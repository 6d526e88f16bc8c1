"""The moving average is one."""

import torch
from torch import nn

from stages.train.ema import EMA


def test_weights_and_statistics_follow_the_model() -> None:
    """Decay (1 + step) / (10 + step) at first, 0.9 later; of running statistics, too; counters as they are."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8))
    ema = EMA(model, 0.9)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(120):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(1)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
    assert ema.model.state_dict().keys() == expected.keys()
    for name, tensor in ema.model.state_dict().items():
        torch.testing.assert_close(tensor, torch.tensor(120) if name == "1.num_batches_tracked" else expected[name])


def test_a_model_without_counters() -> None:
    model = nn.Linear(2, 2)
    ema = EMA(model, 0.5)
    expected = model.weight.detach() + 0.9
    with torch.no_grad():
        model.weight.add_(1)
    ema.update(0)
    torch.testing.assert_close(ema.model.state_dict()["weight"], expected)
