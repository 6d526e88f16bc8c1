"""An own model: the function in stages/model/ that `model` in params.yaml names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stages.common.errors import UserError
from stages.common.extensions import Extension, load_extension

ROOM = "stages.model"
_GIVEN = ("num_classes", "channels", "image_size")


def load_model(name: str, options: Mapping[str, Any]) -> Extension:
    """The function that is called with num_classes, channels and image_size, by name, and with those of `options` that
    it has as parameters. UserError where `name` is none."""
    return load_extension("model", name, ROOM, (), _GIVEN, options)


def build_own_model(
    name: str, *, num_classes: int, channels: int, image_size: int, options: Mapping[str, Any]
) -> nn.Module:
    """The module that the function returns. UserError where it is no model: float32 N×C×H×W → float32 N×num_classes,
    and a state that can be saved."""
    extension = load_model(name, options)
    model = extension(num_classes=num_classes, channels=channels, image_size=image_size)
    if not isinstance(model, nn.Module):
        raise UserError(f"{extension}: expected to return a torch.nn.Module, got {type(model).__name__}.")
    model.eval()
    # Not of one colour: what divides by an image's deviation is right to refuse that.
    images = torch.linspace(-1, 1, 2 * channels * image_size**2).view(2, channels, image_size, image_size)
    try:
        with torch.no_grad():
            logits = model(images)
    except Exception as error:
        error.add_note(f"raised in the extension `{extension}` of params.yaml, given images {tuple(images.shape)}")
        raise
    require_tensor(extension, logits, (2, num_classes), f"float32 images {tuple(images.shape)}")
    _require_storable(extension, model)
    return model


def require_tensor(extension: Extension, value: object, shape: tuple[int, ...], given: str) -> None:
    """UserError where what an extension made of `given` is no float32 tensor of this shape, or has numbers that are not
    finite."""
    if not isinstance(value, torch.Tensor):
        raise UserError(f"{extension}: expected to make a tensor of {given}, got {type(value).__name__}.")
    if value.shape != shape or value.dtype != torch.float32:
        dtype = str(value.dtype).removeprefix("torch.")
        raise UserError(f"{extension}: expected to make float32 {shape} of {given}, got {dtype} {tuple(value.shape)}.")
    if not value.isfinite().all():
        raise UserError(f"{extension}: made of {given}, its result has numbers that are not finite.")


def _require_storable(extension: Extension, model: nn.Module) -> None:
    """UserError where the model has nothing to learn, or a state that safetensors does not take."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"{extension}: expected parameters that can be trained, got none.")
    places: dict[int, str] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"{extension}: {name} in its state_dict: expected a tensor, got {type(tensor).__name__}.")
        other = places.setdefault(tensor.untyped_storage().data_ptr(), name) if tensor.numel() else name
        if other != name:
            raise UserError(
                f"{extension}: {other} and {name} in its state_dict share their memory, which safetensors refuses. "
                "Register one of them only, and use it in both places."
            )
