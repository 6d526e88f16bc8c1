"""An exponential moving average of the weights: what `ema_decay` in params.yaml asks for."""

import copy

import torch
from torch import nn


class EMA:
    """A copy of a model whose weights and running statistics follow those of the model.

    torch.optim.swa_utils.AveragedModel waits for the GPU at every step. The decay rises with the steps,
    min(decay, (1 + step) / (10 + step)), as in TensorFlow's ExponentialMovingAverage, so that the initial weights are
    soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        own, source = self.model.state_dict(), model.state_dict()
        floats = [name for name, tensor in source.items() if tensor.is_floating_point()]
        # Such as the number of batches that batch normalisation has seen.
        integers = [name for name in source if name not in floats]
        self._averages, self._sources = ([tensors[name] for name in floats] for tensors in (own, source))
        self._counters, self._counted = ([tensors[name] for name in integers] for tensors in (own, source))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model after its step `step`, from 0; integers are taken over."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._sources, 1 - decay)
        if self._counters:
            torch._foreach_copy_(self._counters, self._counted)
