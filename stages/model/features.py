"""Features: what all of a network but its last layer makes of images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stages.model.runtime import Runtime


class NotLast(Exception):  # noqa: N818  # it says what is wrong
    """The layer is not what the network ends in, or does not take one vector for each image."""


@contextmanager
def beneath(network: nn.Module, head: str, runtime: Runtime) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """A function: images, float32 n×C×H×W → what the network's last layer, `head`, is given of them, float32 n×D, in
    eval mode. The function raises NotLast."""
    network.eval()
    last = network.get_submodule(head)
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def compute(images: torch.Tensor) -> torch.Tensor:
        seen.clear()
        with runtime.autocast():
            logits = network(images)
            if not (len(seen) == 1 and seen[0].dim() == 2 and torch.equal(last(seen[0]), logits)):
                raise NotLast(head)
        return seen[0].float()

    try:
        yield compute
    finally:
        hook.remove()
