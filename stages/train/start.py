"""What training starts from: a new network or a pretrained one, and which part of it is trained."""

from typing import NamedTuple

import torch
from torch import nn

from stages.common.errors import UserError
from stages.model.architectures import build_model, to_device
from stages.model.dataset import DatasetInfo, Split
from stages.model.pretrained import Pretrained, load_pretrained
from stages.model.runtime import Runtime
from stages.train.features import compute_features
from stages.train.params import TrainParams


class Start(NamedTuple):
    """The whole network; the name of the layer that is new where the rest is pretrained, or ''; and whether that layer
    alone is trained."""

    network: nn.Module
    head: str
    head_alone: bool

    @property
    def trained(self) -> nn.Module:
        """The module that is trained: all of the network, or its head."""
        return self.network.get_submodule(self.head) if self.head_alone else self.network

    @property
    def new_layer(self) -> str:
        """The name of the new layer in what is trained; '' where all of it is new."""
        return "" if self.head_alone else self.head

    def whole(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of the whole network, given those of the trained module."""
        if not self.head_alone:
            return weights
        return self.network.state_dict() | {f"{self.head}.{name}": tensor for name, tensor in weights.items()}


def start(params: TrainParams, info: DatasetInfo, pretrained: Pretrained | None, runtime: Runtime) -> Start:
    """A network on its device, seeded by params. UserError where the weights do not fit it."""
    torch.manual_seed(params.seed)
    network = build_model(
        params.model,
        num_classes=len(info.classes),
        channels=info.channels,
        image_size=info.image_size,
        options=params.options,
    )
    head = load_pretrained(network, pretrained, params.model, len(info.classes)) if pretrained else ""
    to_device(network, runtime.device)
    return Start(network, head, head_alone=bool(head) and params.fine_tune == "head")


def features_of(start: Start, split: Split, params: TrainParams, runtime: Runtime) -> Split:
    """The split as the trained module takes it: its images, or where that is the head alone, their features."""
    if not start.head_alone:
        return split
    mirrored = params.flip != "none"
    return compute_features(start.network, start.head, split, params.eval_batch_size, runtime, mirrored=mirrored)


def require_epochs(params: TrainParams, epochs: int) -> None:
    """UserError where training would end before what is frozen is released."""
    if params.freeze_epochs >= epochs:
        raise UserError(
            f"freeze_epochs: expected fewer than the {epochs} epochs of {params.steps} steps; got "
            f"{params.freeze_epochs}. Lower it, or set `fine_tune: head` to train the last layer alone."
        )
