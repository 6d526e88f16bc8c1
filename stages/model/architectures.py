"""Models by name: three small ones for small images, torchvision's and timm's classifiers, and own ones."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stages.common.errors import UserError
from stages.model.names import OWN_MODELS, TIMM
from stages.model.own_model import build_own_model

# torchvision's own stem halves the image twice before the first block, which leaves nothing of a small one.
_SMALL_IMAGE = 64


def build_model(
    name: str, *, num_classes: int, channels: int, image_size: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """An untrained model: float32 N×C×H×W → logits N×num_classes. Draws from PyTorch's global generator.

    `name` is one that stages/params.py accepts; `options` are for an own model. Raises UserError where the model cannot
    take images of `image_size`.
    """
    if ":" in name:
        return build_own_model(
            name, num_classes=num_classes, channels=channels, image_size=image_size, options=options or {}
        )
    try:
        model = _construct(name, num_classes, channels, image_size)
        model.eval()
        with torch.no_grad():
            logits = model(torch.zeros(2, channels, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"model: {name} cannot take images of {image_size} px ({reason}). "
            f"Change image_size in params.yaml, or choose {', '.join(OWN_MODELS)}."
        ) from None
    assert logits.shape == (2, num_classes), logits.shape
    return model


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The model itself, moved to a device, in the memory format in which convolutions are fastest."""
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # stubs


def _construct(name: str, num_classes: int, channels: int, image_size: int) -> nn.Module:
    if name == "simplenet":
        return simplenet(num_classes, channels, image_size)
    if name == "resnet9":
        return resnet9(num_classes, channels)
    if name == "resnet18" and image_size <= _SMALL_IMAGE:
        return resnet18_small(num_classes, channels)
    if name.startswith(TIMM):
        return timm_classifier(name.removeprefix(TIMM), num_classes, channels, image_size)
    return torchvision_classifier(name, num_classes, channels, image_size)


def simplenet(num_classes: int, channels: int, image_size: int) -> nn.Module:
    """One hidden layer of 128 units on the flattened image."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * image_size**2, 128), nn.ReLU(inplace=True), nn.Linear(128, num_classes)
    )


def resnet9(num_classes: int, channels: int, width: int = 16) -> nn.Module:
    """The nine layers of David Page's "How to train your ResNet" (2018), at a quarter of its width; from 8 px on."""
    return nn.Sequential(
        _conv_bn_relu(channels, width),
        _conv_bn_relu(width, 2 * width),
        nn.MaxPool2d(2),
        _Residual(_conv_bn_relu(2 * width, 2 * width), _conv_bn_relu(2 * width, 2 * width)),
        _conv_bn_relu(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _conv_bn_relu(4 * width, 8 * width),
        nn.MaxPool2d(2),
        _Residual(_conv_bn_relu(8 * width, 8 * width), _conv_bn_relu(8 * width, 8 * width)),
        _GlobalMaxPool(),
        nn.Linear(8 * width, num_classes),
    )


def resnet18_small(num_classes: int, channels: int) -> nn.Module:
    """ResNet-18 (He et al. 2015) with the 3×3 stem of its CIFAR variants and without the first pooling."""
    from torchvision.models import resnet18

    model: nn.Module = resnet18(num_classes=num_classes)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    model.maxpool = nn.Identity()
    return model


def torchvision_classifier(name: str, num_classes: int, channels: int, image_size: int) -> nn.Module:
    """A classifier of torchvision.models, untrained. Grey images are repeated into the three channels it expects."""
    from torchvision.models import get_model

    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    elif name == "maxvit_t":
        options["input_size"] = (image_size, image_size)
    elif name in ("googlenet", "inception_v3"):
        # Their second, auxiliary output would need a loss of its own.
        options |= {"aux_logits": False, "init_weights": True}
    model: nn.Module = get_model(name, **options)
    return nn.Sequential(_Repeat(3), model) if channels == 1 else model


def timm_classifier(name: str, num_classes: int, channels: int, image_size: int) -> nn.Module:
    """A classifier of timm, untrained. Grey images are repeated into the three channels it expects."""
    import timm

    known = timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UserError(
            f"model: {TIMM}{name}: timm {timm.__version__} has no such architecture"
            f"{f'; did you mean {TIMM}' + f' or {TIMM}'.join(near) if near else ''}. Name one without the tag of its "
            "weights, such as timm/resnet50."
        )
    cfg = timm.models.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": image_size} if cfg and cfg.fixed_input_size else {}
    model: nn.Module = timm.create_model(name, num_classes=num_classes, **options)
    return nn.Sequential(_Repeat(3), model) if channels == 1 else model


def behind_repeat(model: nn.Module) -> nn.Module:
    """The network itself, without what repeats grey images for it."""
    return model[1] if isinstance(model, nn.Sequential) and isinstance(model[0], _Repeat) else model


class _GlobalMaxPool(nn.Module):
    """N×C×H×W → N×C. AdaptiveMaxPool2d(1) has no deterministic backward pass on a GPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.amax((2, 3))


class _Repeat(nn.Module):
    """N×1×H×W → N×channels×H×W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.expand(-1, self.channels, -1, -1)


class _Residual(nn.Module):
    """x + layers(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.layers(x))


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
