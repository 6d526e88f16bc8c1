"""torch.optim's SGD or AdamW, its state as flat tensors, and the learning rate as a function of the step."""

import math

import torch
from torch import nn

from stages.train.params import TrainParams

# PyTorch's defaults of OneCycleLR: the first and the last learning rate, as fractions of the highest and of the first.
_DIV_FACTOR = 25.0
_FINAL_DIV_FACTOR = 1e4


def build_optimizer(model: nn.Module, params: TrainParams, head: str = "") -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW. Norms and biases, the parameters of one dimension, get no weight decay.

    `head`: the layer that is new in a pretrained model; all others learn at `backbone_lr` of the learning rate.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    new = {parameter for name, parameter in model.named_parameters() if not head or name.startswith(f"{head}.")}
    groups = [
        {
            "params": [one for one in parameters if (one in new) == is_new and (one.dim() > 1) == decays],
            "weight_decay": params.weight_decay if decays else 0.0,
            "lr_scale": 1.0 if is_new else params.backbone_lr,
        }
        for is_new in (False, True)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    if params.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=params.lr, betas=(params.momentum, 0.999), fused=True)
    momentum = params.momentum
    optimizer = torch.optim.SGD(groups, lr=params.lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum:
        # Fused SGD of PyTorch 2.11 leaves its buffers uninitialised where GradScaler skips the first step.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def optimized(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters of `optimizer`."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Take the next step with this learning rate, scaled as `build_optimizer` has said for each group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Its state as `<index of the parameter>.<name>` → tensor. Options are not part of it: params.yaml has them."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, of_one in state.items() for name, tensor in of_one.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Take over what `optimizer_tensors` gave, in an optimizer of the same model and params."""
    parameters = optimized(optimizer)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # Fused kernels take both to be in one memory format, and safetensors keeps none.
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def learning_rate(params: TrainParams, step: int, steps: int) -> float:
    """The learning rate of step `step`, from 0, of `steps`.

    one_cycle is torch.optim.lr_scheduler.OneCycleLR with its defaults over steps + 1 (Smith and Topin,
    "Super-Convergence", 2018): the last step is not spent at nearly zero. cosine is Loshchilov and Hutter's (2016).
    A function, where torch's schedulers have a state that a checkpoint would have to carry.
    """
    rising = params.warmup * steps
    if params.schedule == "one_cycle":
        peak = max(params.warmup * (steps + 1) - 1, 0.0)
        if step < peak:
            return _along_cosine(params.lr / _DIV_FACTOR, params.lr, step / peak)
        return _along_cosine(params.lr, params.lr / _DIV_FACTOR / _FINAL_DIV_FACTOR, (step - peak) / (steps - peak))
    if step < rising:
        return params.lr * (step + 1) / (math.floor(rising) + 1)
    if params.schedule == "constant":
        return params.lr
    return _along_cosine(params.lr, 0.0, (step - rising) / (steps - rising))


def _along_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))
