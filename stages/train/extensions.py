"""Own augmentation and loss: the functions in stages/train/ that `augment` and `loss` in params.yaml name, tried before
training starts."""

import inspect
from typing import Any, NamedTuple

import torch

from stages.common.errors import UserError
from stages.common.extensions import Extension, load_extension, require_taken
from stages.model.own_model import load_model, require_tensor
from stages.model.runtime import seed_layers
from stages.train.params import TrainParams

ROOM = "stages.train"


class Extensions(NamedTuple):
    """Those that params.yaml names."""

    augment: Extension | None = None
    loss: Extension | None = None


def load_extensions(params: TrainParams) -> Extensions:
    """UserError where one cannot be used, or where no one takes an option."""
    options: dict[str, Any] = params.options
    augment = load_extension("augment", params.augment, ROOM, ("images",), (), options) if params.augment else None
    loss = _load_loss(params) if params.loss else None
    model = load_model(params.model, options) if ":" in params.model else None
    require_taken(options, [extension for extension in (model, augment, loss) if extension])
    return Extensions(augment, loss)


def _load_loss(params: TrainParams) -> Extension:
    """With `label_smoothing`, where the function has such a parameter; it must be 0 for another."""
    arguments = ("logits", "labels")
    options = params.options | {"label_smoothing": params.label_smoothing}
    extension = load_extension("loss", params.loss, ROOM, arguments, (), options)
    if params.label_smoothing and "label_smoothing" not in inspect.signature(extension.function).parameters:
        raise UserError(
            f"{extension}: has no parameter `label_smoothing`, which is {params.label_smoothing} in params.yaml. Give "
            "it one, or set `label_smoothing: 0`."
        )
    return extension


def seed_augmentation(device: torch.device, seed: int) -> None:
    """Seed PyTorch's generators of the CPU, from which most draw, and of the device."""
    torch.default_generator.manual_seed(seed)
    seed_layers(device, seed)


def try_augment(extension: Extension, images: torch.Tensor) -> None:
    """UserError where it does not make float32 N×C×H×W of such images, of which it gets a copy, or makes something else
    of them with the same seed. Draws from PyTorch's global generators."""
    made = []
    for _ in range(2):
        seed_augmentation(images.device, 0)
        made.append(extension(images.clone()))
        require_tensor(extension, made[-1], tuple(images.shape), f"float32 images {tuple(images.shape)}")
    if not torch.equal(*made):
        raise UserError(
            f"{extension}: makes other images with the same seed, so no run could be repeated. Let it draw from "
            "PyTorch's generators only (torch.rand, not random or numpy.random), which are seeded for each step."
        )


def try_loss(extension: Extension, classes: int, device: torch.device) -> None:
    """UserError where it does not make float32 N, a loss for each image, of logits and labels; where no gradient comes
    from it; or where an image's loss depends on the others."""
    labels = torch.arange(2 * classes, device=device) % classes
    logits = torch.linspace(-2, 2, len(labels) * classes, device=device).view(-1, classes).sin().requires_grad_()
    given = f"logits {tuple(logits.shape)} and int64 labels {tuple(labels.shape)}"
    losses = extension(logits, labels)
    require_tensor(extension, losses, tuple(labels.shape), given)
    if not losses.requires_grad:
        raise UserError(f"{extension}: no gradient leads from its result to the logits. Compute it with PyTorch alone.")
    (gradient,) = torch.autograd.grad(losses.sum(), logits, allow_unused=True)
    if gradient is None or not gradient.isfinite().all():
        raise UserError(f"{extension}: expected a finite gradient with respect to the logits, got none, or not finite.")
    if not torch.allclose(losses[:classes], extension(logits[:classes], labels[:classes]), rtol=1e-4, atol=1e-5):
        raise UserError(
            f"{extension}: an image's loss depends on the other images, so another number of processes would give "
            "another result. Return the loss of each image (reduction='none')."
        )
