"""The last layer of a classifier: what is new where all else is pretrained."""

import torch
from torch import nn

from stages.common.errors import UserError


def name_of_head(model: nn.Module, num_classes: int) -> str:
    """The name of the layer that gives a number for each class: timm's by its `get_classifier`, else the last one.

    UserError where there is none, or it is all there is.
    """
    if get_classifier := getattr(model, "get_classifier", None):
        last = get_classifier()
        found = [name for name, module in model.named_modules() if module is last]
    else:
        found = [name for name, module in model.named_modules() if _outputs(module) == num_classes][-1:]
    name = found[0] if len(found) == 1 else ""
    if not name:
        raise UserError(
            f"model: no single last layer of {num_classes} outputs, which pretrained weights would leave to be "
            "trained. Choose another model, or set `weights: ''`."
        )
    return str(name)


def zero(head: nn.Module) -> None:
    """Let a head begin at 0: each class has the same probability, and the first steps do not send noise into what is
    pretrained."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()


def _outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else None
