"""Pretrained weights: weights/NAME.safetensors, which `weights` in params.yaml names, and where they come from.

NAME ends in the first digits of the file's SHA-256, as torchvision's and PyTorch Hub's files do: another content has
another name, so the param alone tells DVC whether train is stale, and nobody needs the file where nothing is trained.
The header of the file says where the weights come from; NAME.json, which Git keeps, says the same to people.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from stages.common.errors import UserError, listed
from stages.common.files import read_json, replacing, write_json
from stages.common.weight_names import DIGITS, digits_of
from stages.model.architectures import behind_repeat
from stages.model.head import name_of_head, zero

FOLDER = Path("weights")
_KEY = "origin"

_Constants = Annotated[list[Annotated[float, Ge(0), Le(1)]], MinLen(1)]


class Origin(BaseModel):
    """Where weights come from, and what their network was trained to see."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    architecture: str
    source: str
    source_sha256: str
    licence: str
    trained_on: str
    classes: Annotated[int, Ge(2)]
    mean: _Constants
    std: Annotated[list[Annotated[float, Gt(0), Le(1)]], MinLen(1)]
    interpolation: str
    image_size: Annotated[int, Ge(1)]
    crop_share: Annotated[float, Gt(0), Le(1)]


class Pretrained(NamedTuple):
    """Weights as they were read: their name, their origin and their tensors."""

    name: str
    origin: Origin
    tensors: dict[str, torch.Tensor]

    def constants(self, channels: int) -> tuple[list[float], list[float]]:
        """Mean and standard deviation for images of so many channels: those of the weights; for grey images, which the
        network gets in three equal channels, their means."""
        mean, std = self.origin.mean, self.origin.std
        if len(mean) == channels:
            return mean, std
        if channels == 1:
            return [round(sum(mean) / len(mean), 8)], [round(sum(std) / len(std), 8)]
        return mean * channels, std * channels


def write_pretrained(tensors: Mapping[str, torch.Tensor], origin: Origin, label: str, folder: Path = FOLDER) -> str:
    """Write weights and their description; return their name. The same weights give the same bytes."""
    described = origin.model_dump()
    content = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, {_KEY: json.dumps(described, sort_keys=True)}
    )
    digest = hashlib.sha256(content).hexdigest()
    name = f"{label}-{digest[:DIGITS]}"
    folder.mkdir(exist_ok=True)
    with replacing(folder / f"{name}.safetensors") as temporary:
        temporary.write_bytes(content)
    write_json(folder / f"{name}.json", {"sha256": digest, **described})
    return name


def read_origin(path: Path) -> Origin:
    """What a NAME.json says. UserError where it is none."""
    content = read_json(path, "`python -m scripts.get_weights` writes it; `git checkout` restores it.")
    return _origin({key: value for key, value in content.items() if key != "sha256"}, path)


def read_pretrained(name: str, folder: Path = FOLDER) -> Pretrained:
    """Read weights. UserError where they are missing, not those of this name, damaged, or not numbers."""
    path = folder / f"{name}.safetensors"
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(
            f"weights: {path}: no such file. `make data` gets it from the cache or the remote, `dvc pull {path}.dvc` "
            "from the remote, and `python -m scripts.get_weights` from where it was published."
        ) from None
    if not digest.startswith(digits_of(name)):
        raise UserError(
            f"weights: {path}: not the weights of this name: expected a SHA-256 that begins with its last "
            f"digits, got {digest[:DIGITS]}. `dvc checkout {path}.dvc` restores it."
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dict
    except SafetensorError as error:
        raise UserError(f"weights: {path}: not a whole safetensors file ({error}). Get it again.") from None
    try:
        described = json.loads(metadata.get(_KEY, ""))
    except ValueError:
        raise UserError(
            f"weights: {path}: does not say where it comes from. `python -m scripts.get_weights --from {path}` "
            "writes weights that do."
        ) from None
    origin = _origin(described, path)
    if (beside := folder / f"{name}.json").exists() and read_origin(beside) != origin:
        raise UserError(f"weights: {beside}: says other than the weights themselves. `git checkout {beside}`.")
    require_finite(tensors, path)
    return Pretrained(name, origin, tensors)


def require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """UserError where a tensor has a number that is not finite."""
    bad = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise UserError(f"weights: {path}: numbers that are not finite in:\n{listed(bad)}\nGet other weights.")


def load_pretrained(model: nn.Module, pretrained: Pretrained, architecture: str, num_classes: int) -> str:
    """Put weights into a new model; its head begins at 0. Returns the name of the head.

    UserError where they are of another architecture, or tensors are missing, too many or of another shape.
    """
    if pretrained.origin.architecture != architecture:
        raise UserError(
            f"weights: {pretrained.name}: weights of {pretrained.origin.architecture}; expected those of the model, "
            f"{architecture}. Set `model: {pretrained.origin.architecture}`, or get weights of {architecture}."
        )
    network = behind_repeat(model)
    head = name_of_head(network, num_classes)
    own = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith(f"{head}.")}
    given = {
        key: adapt_channels(tensor, own[key].shape) if key in own else tensor
        for key, tensor in pretrained.tensors.items()
        if not key.startswith(f"{head}.")
    }
    if problems := mismatches(own, given):
        raise UserError(
            f"weights: {pretrained.name}: not weights of {architecture} for these images, as its code is now "
            f"({pretrained.origin.image_size} px and {len(pretrained.origin.mean)} channels were theirs):\n"
            f"{listed(problems)}"
        )
    network.load_state_dict(given, strict=False)
    zero(network.get_submodule(head))
    return head if network is model else f"1.{head}"


def mismatches(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """Tensors that are missing, too many or of another shape, a line each, sorted."""
    problems = [f"{key}: missing" for key in expected.keys() - given.keys()]
    problems += [f"{key}: not in the model" for key in given.keys() - expected.keys()]
    problems += [
        f"{key}: {tuple(given[key].shape)}; expected {tuple(expected[key].shape)}"
        for key in expected.keys() & given.keys()
        if expected[key].shape != given[key].shape
    ]
    return sorted(problems)


def adapt_channels(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The first convolution's weights for images of another number of channels, which then are equal: three become one
    by their sum, and one becomes three thirds (as timm's `adapt_input_conv` does). Other tensors stay."""
    if tensor.dim() != 4 or len(shape) != 4 or (tensor.shape[0], tensor.shape[2:]) != (shape[0], shape[2:]):
        return tensor
    if (tensor.shape[1], shape[1]) == (3, 1):
        return tensor.sum(1, keepdim=True)
    if (tensor.shape[1], shape[1]) == (1, 3):
        return tensor.expand(-1, 3, -1, -1) / 3
    return tensor


def _origin(described: Any, path: Path) -> Origin:
    try:
        return Origin.model_validate(described)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "origin"
        raise UserError(f"weights: {path}: {where}: {problem['msg']}. Get the weights again.") from None
