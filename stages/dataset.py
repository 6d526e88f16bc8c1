"""Prepared arrays → batches on a device."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.errors import UserError
from stages.files import read_json
from stages.runtime import seeded_generator

PREPARED = Path("prepared")
_REMEDY = "`dvc repro prepare` makes it."


@dataclass(frozen=True)
class DatasetInfo:
    """prepared/dataset.json: class names in label order, channels and side of the images, and the mean and standard
    deviation of the train split, per channel on the scale 0 to 1."""

    classes: list[str]
    channels: int
    image_size: int
    mean: list[float]
    std: list[float]


class Batch(NamedTuple):
    """Normalised images, float32 N×C×H×W in channels_last memory, and labels, int64 N."""

    images: torch.Tensor
    labels: torch.Tensor


def read_dataset(folder: Path = PREPARED) -> dict[str, Any]:
    """All of dataset.json, digests of the arrays included. UserError where it is missing."""
    return read_json(folder / "dataset.json", _REMEDY)


def load_info(folder: Path = PREPARED) -> DatasetInfo:
    """Read dataset.json. UserError where it is missing or incomplete."""
    content = read_dataset(folder)
    try:
        return DatasetInfo(**{name: content[name] for name in DatasetInfo.__dataclass_fields__})
    except KeyError as error:
        raise UserError(f"{folder}/dataset.json: no key {error}. {_REMEDY}") from None


class Split:
    """One split on a device: uint8 images N×H×W×C and int64 labels N, normalised batch by batch."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, info: DatasetInfo) -> None:
        self.images = images
        self.labels = labels
        shape = (1, info.channels, 1, 1)
        self._mean = torch.tensor(info.mean, device=images.device).mul(255).view(shape)
        self._scale = torch.tensor(info.std, device=images.device).mul(255).reciprocal().view(shape)

    @classmethod
    def load(cls, name: str, info: DatasetInfo, device: torch.device, folder: Path = PREPARED) -> "Split":
        """Load split `name` onto `device`. UserError where its arrays are missing or not what `info` says."""
        arrays = []
        for part in ("images", "labels"):
            path = folder / f"{name}-{part}.npy"
            try:
                arrays.append(np.load(path))
            except FileNotFoundError:
                raise UserError(f"{path}: no such file. {_REMEDY}") from None
            except ValueError as error:
                raise UserError(f"{path}: {error}. {_REMEDY}") from None
        images, labels = arrays
        expected = (len(labels), info.image_size, info.image_size, info.channels)
        if images.shape != expected or images.dtype != np.uint8 or len(labels) == 0:
            raise UserError(
                f"{folder}/{name}-images.npy: expected uint8 {expected}, got {images.dtype} {images.shape}. {_REMEDY}"
            )
        return cls(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device), info)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: torch.Tensor | slice) -> Batch:
        """The images at `index`, normalised to mean 0 and standard deviation 1."""
        images = self.images[index].permute(0, 3, 1, 2).float()
        return Batch(images.sub_(self._mean).mul_(self._scale), self.labels[index])

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All images in order; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))

    def shuffled_batches(self, batch_size: int, seed: int, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Whole batches in an order that is a function of (seed, epoch) alone, from batch number `first` on.

        Images beyond the last whole batch are left to another epoch's order; a split smaller than `batch_size` is one
        batch.
        """
        order = torch.randperm(len(self), generator=seeded_generator(seed, "order", epoch)).to(self.labels.device)
        for step in range(first, self.steps_per_epoch(batch_size)):
            yield self.batch(order[step * batch_size : (step + 1) * batch_size])

    def steps_per_epoch(self, batch_size: int) -> int:
        """How many batches `shuffled_batches` yields."""
        return max(1, len(self) // batch_size)
