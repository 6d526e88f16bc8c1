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
    """The whole network; the module that is trained, which is all of it or its head; and in the latter, the name of the
    layer that is new where the rest is pretrained."""

    network: nn.Module
    trained: nn.Module
    head: str

    def whole(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of the whole network, given those of the trained module."""
        if self.trained is self.network:
            return weights
        (prefix,) = (name for name, module in self.network.named_modules() if module is self.trained)
        return self.network.state_dict() | {f"{prefix}.{name}": tensor for name, tensor in weights.items()}


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
    if head and params.fine_tune == "head":
        return Start(network, network.get_submodule(head), "")
    return Start(network, network, head)


def features_of(start: Start, split: Split, params: TrainParams, runtime: Runtime) -> Split:
    """The split as the trained module takes it: its images, or where that is the head alone, their features."""
    if start.trained is start.network:
        return split
    (head,) = (name for name, module in start.network.named_modules() if module is start.trained)
    return compute_features(start.network, head, split, params.eval_batch_size, runtime, mirrored=params.flip != "none")


def require_epochs(params: TrainParams, epochs: int) -> None:
    """UserError where training would end before what is frozen is released."""
    if params.freeze_epochs >= epochs:
        raise UserError(
            f"freeze_epochs: expected fewer than the {epochs} epochs of {params.steps} steps; got "
            f"{params.freeze_epochs}. Lower it, or set `fine_tune: head` to train the last layer alone."
        )
