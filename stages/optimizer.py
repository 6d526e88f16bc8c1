"""What a step does to the weights: gradient → SGD or AdamW at the schedule's learning rate → moving average.

Built on PyTorch's functional sgd and adamw, with their fused kernels. torch.optim's classes add, with torch._dynamo, a
second to the start of every run, and their schedulers state that a checkpoint would have to carry: here the learning
rate is a function of the step.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from stages.params import TrainParams

# PyTorch's defaults of OneCycleLR and AdamW.
_START = 25.0
_END = 1e4
_BETA2 = 0.999
_EPSILON = 1e-8


def learning_rate(params: TrainParams, step: int, steps: int) -> float:
    """The learning rate of step `step`, from 0, of `steps`.

    one_cycle is torch.optim.lr_scheduler.OneCycleLR with its defaults over steps + 1 (Smith and Topin,
    "Super-Convergence", 2018): the last step is not spent at nearly zero. cosine is Loshchilov and Hutter's (2016).
    """
    rising = params.warmup * steps
    if params.schedule == "one_cycle":
        peak = max(params.warmup * (steps + 1) - 1, 0.0)
        if step < peak:
            return _along_cosine(params.lr / _START, params.lr, step / peak)
        return _along_cosine(params.lr, params.lr / _START / _END, (step - peak) / (steps - peak))
    if step < rising:
        return params.lr * (step + 1) / (math.floor(rising) + 1)
    if params.schedule == "constant":
        return params.lr
    return _along_cosine(params.lr, 0.0, (step - rising) / (steps - rising))


def _along_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


class Optimizer:
    """SGD with Nesterov momentum, or AdamW. Norms and biases, the parameters of one dimension, get no weight decay."""

    # Tells torch.amp.GradScaler to hand over scale and overflow in `grad_scale` and `found_inf`, on the device, rather
    # than to wait for the device and decide by itself whether to step.
    _step_supports_amp_scaling = True

    def __init__(self, model: nn.Module, params: TrainParams) -> None:
        self.params = params
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in parameters if parameter.dim() > 1]
        others = [parameter for parameter in parameters if parameter.dim() <= 1]
        # In the form in which GradScaler looks for gradients.
        self.param_groups = [{"params": group} for group in (decayed, others) if group]
        self._decays = [decay for group, decay in ((decayed, params.weight_decay), (others, 0.0)) if group]
        names = ("momentum",) if params.optimizer == "sgd" else ("exp_avg", "exp_avg_sq")
        self._moments: list[dict[str, list[torch.Tensor]]] = [
            {name: [torch.zeros_like(parameter) for parameter in group["params"]] for name in names}
            for group in self.param_groups
        ]
        if params.optimizer == "adamw":
            for group, moments in zip(self.param_groups, self._moments, strict=True):
                moments["step"] = [torch.zeros((), device=parameter.device) for parameter in group["params"]]

    @property
    def gradients(self) -> list[torch.Tensor]:
        """Of all parameters that have one."""
        return [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def clip(self, longest: float) -> None:
        """Scale all gradients down so that together they are at most `longest` long."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        nn.utils.clip_grads_with_norm_(parameters, longest, nn.utils.get_total_norm(self.gradients))

    @torch.no_grad()
    def step(self, lr: float, halt: torch.Tensor) -> None:
        """Change the weights, unless `halt`, 0 or 1 on the device, is 1 or GradScaler found an overflow."""
        # GradScaler sets both for the time of a step.
        overflow: torch.Tensor | None = getattr(self, "found_inf", None)
        found_inf = halt if overflow is None else torch.maximum(halt, overflow.view(()))
        shared: dict[str, Any] = {
            "lr": lr,
            "fused": True,
            "foreach": False,
            "maximize": False,
            "grad_scale": getattr(self, "grad_scale", None),
            "found_inf": found_inf,
        }
        for group, decay, moments in zip(self.param_groups, self._decays, self._moments, strict=True):
            parameters: list[torch.Tensor] = list(group["params"])
            gradients: Any = [parameter.grad for parameter in parameters]
            if self.params.optimizer == "sgd":
                sgd(
                    parameters,
                    gradients,
                    list(moments["momentum"]),
                    weight_decay=decay,
                    momentum=self.params.momentum,
                    dampening=0,
                    nesterov=self.params.momentum > 0,
                    has_sparse_grad=False,
                    **shared,
                )
            else:
                adamw(
                    parameters,
                    gradients,
                    moments["exp_avg"],
                    moments["exp_avg_sq"],
                    [],
                    moments["step"],
                    weight_decay=decay,
                    beta1=self.params.momentum,
                    beta2=_BETA2,
                    eps=_EPSILON,
                    amsgrad=False,
                    **shared,
                )

    def state(self) -> dict[str, torch.Tensor]:
        """What steps have left behind, by name."""
        return {
            f"{group}.{name}.{index}": tensor
            for group, moments in enumerate(self._moments)
            for name, tensors in moments.items()
            for index, tensor in enumerate(tensors)
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` gave, in an optimizer of the same model and params."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class Average:
    """A moving average of weights and buffers, which is what `ema_decay` asks for; it starts as the model.

    The decay rises with the steps, min(decay, (1 + step) / (10 + step)), as in TensorFlow's ExponentialMovingAverage,
    so that the initial weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._current = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        self._names = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._current]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model after its step `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, self._current, 1 - decay)

    def state(self) -> dict[str, torch.Tensor]:
        """The averages by the names that the model gives them; what is not a float has none."""
        return dict(zip(self._names, self._average, strict=True))

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights; twice is as if never."""
        for average, current in zip(self._average, self._current, strict=True):
            kept = current.clone()
            current.copy_(average)
            average.copy_(kept)
