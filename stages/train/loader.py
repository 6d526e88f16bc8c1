"""The batches of training: which images, in what order, changed how."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from stages.common.extensions import Extension
from stages.model.dataset import Split
from stages.model.runtime import seeded_generator
from stages.train.augment import Augment, Mix
from stages.train.distributed import World
from stages.train.params import TrainParams


class TrainingBatch(NamedTuple):
    """One rank's part of a batch: images float32 n×C×H×W in channels_last memory, and labels int64 n.

    `size` counts the images of the whole batch.
    """

    images: torch.Tensor
    labels: torch.Tensor
    mix: Mix | None
    size: int

    def parts(self, number: int) -> Iterator["TrainingBatch"]:
        """The same images in so many parts, of sizes that differ by one at most."""
        for rows in torch.arange(len(self.labels)).tensor_split(number):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            mix = Mix(self.mix.labels[part], self.mix.share[part]) if self.mix else None
            yield TrainingBatch(self.images[part], self.labels[part], mix, self.size)


def indices_by_class(labels: torch.Tensor) -> list[torch.Tensor]:
    """For each label from 0 to the largest, the indices of its images."""
    return [torch.nonzero(labels == label)[:, 0] for label in range(int(labels.max()) + 1)]


class Loader:
    """Batches of the train split in an order that is a function of (seed, epoch) and the labels alone.

    An epoch is whole batches: what is left over falls to another epoch's order. A split smaller than a batch is one.
    """

    def __init__(self, split: Split, params: TrainParams, world: World, augment: Extension | None = None) -> None:
        """`augment`: what params.yaml names as own augmentation."""
        self.split = split
        self.seed = params.seed
        self.batch_size = min(params.batch_size, len(split))
        self.steps_per_epoch = len(split) // self.batch_size
        sides = (split.info.stored_size, split.info.image_size)
        self.augment = Augment(params, len(split), sides, split.device, augment)
        self.part = world.shard(self.batch_size)
        self._by_class = (
            [indices for indices in indices_by_class(split.labels.cpu()) if len(indices)]
            if params.balance == "sampling"
            else []
        )

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        """Indices of an epoch's images, int64 N: all of them; balanced, as many of each class, to one image: of a class
        that has fewer, each once before any again."""
        if not self._by_class:
            return torch.randperm(len(self.split), generator=generator)
        number = -(-len(self.split) // len(self._by_class))
        chosen = []
        for indices in self._by_class:
            rounds = [torch.randperm(len(indices), generator=generator) for _ in range(-(-number // len(indices)))]
            chosen.append(indices[torch.cat(rounds)[:number]])
        every = torch.cat(chosen)
        return every[torch.randperm(len(every), generator=generator)[: len(self.split)]]

    def epoch(self, number: int, first: int = 0) -> Iterator[TrainingBatch]:
        """This rank's part of each batch of epoch `number`, from step `first` on."""
        order = self._order(seeded_generator(self.seed, "order", number))
        order = order[: self.steps_per_epoch * self.batch_size].view(self.steps_per_epoch, self.batch_size)
        self.augment.start_epoch(number, order)
        # Mixing and own augmentation need the images of the other ranks, too.
        needed = slice(0, self.batch_size) if self.augment.needs_batch else self.part
        labels = self.split.labels[order.to(self.split.device)]
        selections = order[first:, needed].to(self.split.images.device)
        for step, rows in enumerate(self.split.rows(selections), first):
            images = self.split.normalise(self.augment.pixels(rows, step, needed))
            images = self.augment.images(images, step, needed)
            mix = None
            if self.augment.mixes:
                images, whole = self.augment.mix(images, labels[step], step)
                assert whole is not None
                mix = Mix(whole.labels[self.part], whole.share[self.part])
            if self.augment.needs_batch:
                images = images[self.part]
            yield TrainingBatch(images, labels[step, self.part], mix, self.batch_size)
