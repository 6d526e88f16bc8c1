"""What train, and what starts it, read of params.yaml."""

import difflib
import keyword
import re
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from stages.common.params import Schema, Seed, named_in
from stages.common.weight_names import why_no_weights
from stages.model.names import MODELS, OWN_MODELS, TIMM
from stages.model.params import RuntimeParams


def _known_model(name: str) -> str:
    if ":" in name:
        return named_in("stages.model")(name)
    if name.startswith(TIMM) and re.fullmatch(r"\w+", name.removeprefix(TIMM)):
        return name
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see README.md"
        raise PydanticCustomError(
            "unknown_name",
            "expected {known}, a torchvision classifier, or timm/ with one of timm's; {hint}",
            {"known": ", ".join(OWN_MODELS), "hint": hint},
        )
    return name


def _are_options(options: object) -> object:
    if not isinstance(options, dict):
        return options
    for name in options:
        if not (isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)):
            raise PydanticCustomError("options", "expected names of parameters, not {name}", {"name": repr(name)})
    return options


def _weights(name: str) -> str:
    if name and (reason := why_no_weights(name)):
        raise PydanticCustomError("unknown_name", "{reason}", {"reason": reason})
    return name


class TrainParams(RuntimeParams):
    """What train reads."""

    model: Annotated[str, AfterValidator(_known_model)]
    epochs: Annotated[int, Ge(1), Le(100_000)]
    steps: Annotated[int, Ge(0), Le(100_000_000)]
    batch_size: Annotated[int, Ge(1), Le(65536)]
    optimizer: Literal["sgd", "adamw"]
    lr: Annotated[float, Gt(0), Le(100)]
    schedule: Literal["one_cycle", "cosine", "constant"]
    warmup: Annotated[float, Ge(0), Le(0.95)]
    momentum: Annotated[float, Ge(0), Le(0.999)]
    weight_decay: Annotated[float, Ge(0), Le(1)]
    clip_norm: Annotated[float, Ge(0), Le(1e6)]
    ema_decay: Annotated[float, Ge(0), Le(0.99999)]
    label_smoothing: Annotated[float, Ge(0), Le(0.5)]
    crop_padding: Annotated[int, Ge(0), Le(256)]
    resized_crop: Annotated[float, Ge(0.01), Le(1)]
    flip: Literal["none", "random", "alternating"]
    erasing: Annotated[float, Ge(0), Le(1)]
    mixup: Annotated[float, Ge(0), Le(10)]
    cutmix: Annotated[float, Ge(0), Le(10)]
    augment: Annotated[str, AfterValidator(named_in("stages.train"))] = Field(
        "",
        description="Own augmentation after the built-in ones: '' for none, or its function, such as "
        "stages.train.mine:jitter (docs/extend.md).",
    )
    loss: Annotated[str, AfterValidator(named_in("stages.train"))] = Field(
        "",
        description="Own loss in place of cross-entropy: '' for cross-entropy, or its function, such as "
        "stages.train.mine:focal (docs/extend.md).",
    )
    options: Annotated[dict[str, bool | int | float | str], BeforeValidator(_are_options)] = Field(
        {},
        description="Parameters of the functions that model, augment and loss name, by their names, such as "
        "{width: 64}; `dvc exp run -S +options.width=64`.",
    )
    compile: bool
    seed: Seed
    weights: Annotated[str, AfterValidator(_weights)] = Field(
        "",
        description="Pretrained weights to start from: '' for none, or their name in weights/, as `python -m "
        "scripts.get_weights` prints it (docs/photos.md). The last layer is new.",
    )
    fine_tune: Literal["all", "head"] = Field(
        "all",
        description="What is trained of a pretrained model: all, or head, the last layer alone, on features that the "
        "rest computes once, which takes seconds; of augmentation, it allows flip.",
    )
    freeze_epochs: Annotated[int, Ge(0), Le(100_000)] = Field(
        0,
        description="Epochs at the start in which the last layer of a pretrained model is trained alone, the rest "
        "frozen in eval mode; below epochs, 0 for none.",
    )
    backbone_lr: Annotated[float, Gt(0), Le(1)] = Field(
        1,
        description="Learning rate of all but the last layer of a pretrained model, as a fraction of lr; above 0, up "
        "to 1.",
    )
    patience: Annotated[int, Ge(0), Le(100_000)] = Field(
        0, description="Stop after so many epochs without a better val accuracy; 0 for never."
    )
    trivial_augment: bool = Field(
        False,
        description="TrivialAugment: one random operation on each image, such as rotation, shear, brightness or "
        "contrast, of random strength; true or false.",
    )
    balance: Literal["none", "loss", "sampling"] = Field(
        "none",
        description="For classes of unequal size: none, loss (each image's loss is weighted by the inverse frequency "
        "of its class) or sampling (an epoch has as many images of each class, those of small classes repeatedly).",
    )
    accumulate: Annotated[int, Ge(1), Le(65536)] = Field(
        1,
        description="Gradient accumulation: compute a batch in so many parts, which take less memory; batch "
        "normalisation then sees the parts; 1 to batch_size.",
    )


class LaunchParams(Schema):
    """What stages.train.launch reads. No result holds it: how many processes there were is in environment.json."""

    launcher: Annotated[list[str | int], Field(min_length=1)]
