"""Features of a split, computed once where the last layer alone is trained."""

from dataclasses import replace

import torch
from torch import nn

from stages.common.errors import UserError
from stages.model.dataset import Split
from stages.model.features import NotLast, beneath
from stages.model.runtime import Runtime


class Features(Split):
    """A split whose images are features, float32 N×1×V×D: of each image and, where V is 2, of its mirror image, so that
    mirroring an image left and right is exchanging the two."""

    def normalise(self, rows: torch.Tensor) -> torch.Tensor:
        """n×1×V×D → n×D, those of the first view."""
        return rows[:, 0, 0]

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        return self.normalise(rows)

    @property
    def placement(self) -> str:
        return "as features"


@torch.inference_mode()
def compute_features(
    network: nn.Module, head: str, split: Split, batch_size: int, runtime: Runtime, *, mirrored: bool
) -> Features:
    """Features of a split, of the images as evaluation sees them. UserError where the head is not what the network ends
    in."""
    views: list[torch.Tensor] = []
    with beneath(network, head, runtime) as features:
        for batch in split.batches(batch_size):
            seen = (batch.images, batch.images.flip(3)) if mirrored else (batch.images,)
            try:
                views.append(torch.stack([features(images) for images in seen], 1))
            except NotLast:
                raise UserError(
                    f"fine_tune: head: the model does not end in its last layer, {head}, or that does not take one "
                    "vector for each image. Set `fine_tune: all`, or choose another model."
                ) from None
    info = replace(split.info, stored_size=split.info.image_size)
    return Features(torch.cat(views)[:, None].clone(), split.labels, info)
