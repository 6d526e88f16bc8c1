"""Images → features, in batches that are always of one size; those that are known are not computed again."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from stages.common.errors import UserError
from stages.look.kept import Kept
from stages.look.network import Network, no_features
from stages.model.architectures import to_device
from stages.model.dataset import Split
from stages.model.features import NotLast, beneath
from stages.model.runtime import Runtime
from stages.model.sharded import ShardedImages

# uint8 N×S×S×C, in host memory or in shards.
Images = torch.Tensor | ShardedImages
# Images of shards that are decoded at a time for their digests.
_DECODED = 256


class Extractor:
    """A network, made when the first image needs it."""

    def __init__(self, network: Network, runtime: Runtime, batch_size: int) -> None:
        self._network = network
        self._runtime = runtime
        self._batch_size = batch_size

    @cached_property
    def _module(self) -> tuple[nn.Module, str]:
        module, head = self._network.build()
        return to_device(module, self._runtime.device), head

    @torch.inference_mode()
    def compute(self, images: Images, wanted: Sequence[int]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Of the images, those that are `wanted`: their places, a batch at a time, and the features of what evaluation
        sees of them, enlarged to the network's side; float32 n×D.

        A last batch is filled up with an image that is there, because kernels, and so the order of sums, may depend on
        the size of a batch: the features of an image are the same bytes, whichever others are computed with it.
        UserError where the network has no features, or they are not finite.
        """
        device = self._runtime.device
        split = Split(images, torch.zeros(len(images)), self._network.info, device, streamed=True)
        size = self._batch_size
        batches = [list(wanted[first : first + size]) for first in range(0, len(wanted), size)]
        filled = (torch.tensor(places + places[-1:] * (size - len(places))) for places in batches)
        with beneath(*self._module, self._runtime) as features:
            for places, rows in zip(batches, split.rows(filled), strict=True):
                try:
                    vectors = features(self._enlarged(split.seen(rows)))[: len(places)].cpu().numpy()
                except NotLast:
                    raise no_features(self._network.name) from None
                if not np.isfinite(vectors).all():
                    raise UserError(
                        f"{self._network.name}: features that are not finite. Choose other weights, or train the model "
                        "again, lr lower."
                    )
                yield places, vectors

    def _enlarged(self, images: torch.Tensor) -> torch.Tensor:
        side = self._network.side
        return images if images.shape[2] == side else interpolate(images, (side, side), mode="bilinear")


def digests_of(images: Images, places: Sequence[int]) -> list[bytes]:
    """The SHA-256 of the pixels of each image, as they are stored."""
    if isinstance(images, ShardedImages):
        some = (torch.tensor(places[first : first + _DECODED]) for first in range(0, len(places), _DECODED))
        return [_digest(image) for rows in images.rows(some) for image in rows]
    return [_digest(images[place]) for place in places]


def _digest(image: torch.Tensor) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image.numpy()).data).digest()


def complete(kept: Kept, extractor: Extractor, images: Images, digests: Sequence[bytes], places: Sequence[int]) -> int:
    """Let `kept` have the features of the images at `places`, whose digests are given; how many were computed."""
    known = kept.known()
    new = {place: digest for digest, place in zip(digests, places, strict=True) if digest not in known}
    with tqdm(total=len(new), unit="image", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        for some, vectors in extractor.compute(images, list(new)) if new else ():
            kept.add((new[place], vector.tobytes()) for place, vector in zip(some, vectors, strict=True))
            bar.update(len(some))
    return len(new)
