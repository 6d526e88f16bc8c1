"""Which network images are looked at with: pretrained weights, or else the project's own trained model."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from stages.common.errors import UserError
from stages.common.weight_names import why_no_weights
from stages.look.params import LookParams
from stages.model.architectures import behind_repeat, build_model
from stages.model.dataset import DatasetInfo
from stages.model.head import name_of_head
from stages.model.pretrained import FOLDER, Pretrained, load_pretrained, read_pretrained
from stages.model.runtime import Runtime, describe
from stages.model.trained import MODEL, WEIGHTS, TrainedModel, load_trained

# Networks see little in images that are smaller than those that they have learned from. What a linear classifier on
# features of EfficientNet-Lite0 (224 px) tells rightly of images that are enlarged: of 500 CIFAR-10 images (32 px;
# learned from 1,500) 37 % as they are, 59 % at 64 px, 71 at 96, 74 at 128, 76 at 160, 72 at 192 and 224; of 353 digits
# (8 px) 82 % at 32 px, 95 at 64, 95 at 96, 92 at 128.
_MOST_ENLARGED, _LEAST_SIDE = 4, 64
_GET_WEIGHTS = "`python -m scripts.get_weights NAME` gets pretrained ones (docs/photos.md)"


class Network(NamedTuple):
    """`name`: in words; `is_own`: whether it has learned from these labels; `sha256`: of the file of its weights.
    `info`: of images; `side`: to which they are enlarged for it. `build`: makes it, with the name of its last layer."""

    name: str
    is_own: bool
    sha256: str
    info: DatasetInfo
    side: int
    build: Callable[[], tuple[nn.Module, str]]


def choose(params: LookParams, named: str, *, own: bool) -> tuple[str, str]:
    """The name of the weights, '' for the trained model, and why these. `named` are those that the person names; with
    `own`, the trained model is meant. UserError where there are neither, or several weights to choose from."""
    if own:
        return "", "as --model says"
    if named:
        if reason := why_no_weights(named):
            raise UserError(f"--weights: expected {reason}; got {named!r}.")
        return named, "as --weights says"
    if params.weights:
        return params.weights, "which params.yaml names"
    found = sorted(path.stem for path in FOLDER.glob("*.json") if not why_no_weights(path.stem))
    if len(found) == 1:
        return found[0], f"the only ones in {FOLDER}/"
    if found:
        raise UserError(
            f"{FOLDER}/: {len(found)} weights, {', '.join(found)}, of which params.yaml names none. Say which: "
            f"`make look WEIGHTS={found[0]}`."
        )
    if MODEL.exists():
        return "", f"there are no weights in {FOLDER}/"
    raise UserError(
        f"{FOLDER}/ and {MODEL}: neither weights nor a trained model, so nothing to look at images with. "
        f"{_GET_WEIGHTS}; or `make repro` trains a model."
    )


def from_weights(name: str, params: LookParams, info: DatasetInfo) -> Network:
    """The network of pretrained weights. UserError where they are missing, damaged, or not for such images."""
    pretrained = read_pretrained(name)
    mean, std = pretrained.constants(info.channels)
    enlarged = max(_MOST_ENLARGED * info.image_size, _LEAST_SIDE)
    side = max(info.image_size, min(enlarged, pretrained.origin.image_size))
    return Network(
        f"weights {name}, {pretrained.origin.architecture}",
        False,
        _sha256(FOLDER / f"{name}.safetensors"),
        replace(info, mean=mean, std=std),
        side,
        lambda: _build(pretrained, params, info, side),
    )


def _build(pretrained: Pretrained, params: LookParams, info: DatasetInfo, side: int) -> tuple[nn.Module, str]:
    architecture = pretrained.origin.architecture
    network = build_model(
        architecture,
        num_classes=len(info.classes),
        channels=info.channels,
        image_size=side,
        options=params.options,
    )
    return network, load_pretrained(network, pretrained, architecture, len(info.classes))


def from_model(info: DatasetInfo) -> Network:
    """The trained model. UserError where it is missing, damaged, or of other images or classes than `info` says."""
    model = load_trained()
    # Pretrained weights have constants of their own.
    if model.info != (replace(info, mean=model.info.mean, std=model.info.std) if model.origin else info):
        raise UserError(f"{MODEL}: trained on other data than prepared/ has. `make repro` trains on these.")
    architecture = model.params["model"]
    return Network(
        f"{MODEL.parent}/, {architecture}, trained on these labels",
        True,
        _sha256(WEIGHTS),
        model.info,
        info.image_size,
        lambda: (model.network, _head(model)),
    )


def _head(model: TrainedModel) -> str:
    network = behind_repeat(model.network)
    try:
        head = name_of_head(network, len(model.info.classes))
    except UserError:
        raise no_features(f"{MODEL.parent}/") from None
    return head if network is model.network else f"1.{head}"


def no_features(name: str) -> UserError:
    """Why a network has no features, where it does not end in its last layer."""
    return UserError(
        f"{name}: its network does not end in one layer that takes a vector for each image, so it has no features to "
        f"look at. Choose other weights: {_GET_WEIGHTS}."
    )


def identity(network: Network, params: LookParams, runtime: Runtime, batch_size: int) -> str:
    """All that decides the features of an image: weights, code, packages, what the network sees of an image, and the
    arithmetic."""
    room = Path(__file__).parent
    code = [*sorted(room.parent.glob("model/*.py")), room / "network.py", room / "vectors.py"]
    info = network.info
    decides: dict[str, Any] = {
        "weights": network.sha256,
        "options": params.options,
        "images": (info.channels, info.image_size, info.mean, info.std, network.side),
        "batch_size": batch_size,
        "code": [_sha256(file) for file in code],
        "packages": {name: version(name) for name in ("torch", "torchvision", "timm")},
        # Portable arithmetic gives the same bytes on all CPUs that have it.
        "device": runtime.arithmetic if runtime.arithmetic == "portable" else describe(runtime.device),
        "precision": runtime.precision,
        "deterministic": params.deterministic,
        "threads": params.threads,
    }
    return json.dumps(decides, sort_keys=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
