"""The batches of training: which images, in what order, changed how."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from stages.common.errors import UserError
from stages.common.extensions import Extension
from stages.model.dataset import Split
from stages.model.runtime import seeded_generator
from stages.model.sources import WINDOW
from stages.train.augment import Augment, Mix, Places
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


def mirrored_places(part: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Places of a batch, int64 n, ascending, and with each the one as far from the batch's other end."""
    places: torch.Tensor = torch.cat((part, batch_size - 1 - part)).unique()
    return places


def paired_places(batch_size: int, world: World) -> torch.Tensor:
    """This rank's part of a batch whose images are mixed with those in reverse order, int64 n, ascending: first and
    last, second and last but one, and so on, as far as parts that differ by one at most allow."""
    places = torch.arange(batch_size)
    paired = torch.stack((places, places.flip(0)), 1).flatten()[:batch_size]
    part: torch.Tensor = paired[world.shard(batch_size)].sort().values
    return part


def order_in_windows(begins: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Indices of images in shards, int64 N, of which shard i has those from begins[i] on; the last one is N: shards in
    random order, and the images of each WINDOW of them in random order."""
    windows = []
    for some in torch.randperm(len(begins) - 1, generator=generator).split(WINDOW):
        indices = torch.cat([torch.arange(*begins[shard : shard + 2].tolist()) for shard in some.tolist()])
        windows.append(indices[torch.randperm(len(indices), generator=generator)])
    return torch.cat(windows)


class Loader:
    """Batches of the train split in an order that is a function of (seed, epoch), the labels and, of a split in shards,
    the places of its images alone.

    An epoch is whole batches: what is left over falls to another epoch's order. A split smaller than a batch is one.
    """

    def __init__(self, split: Split, params: TrainParams, world: World, augment: Extension | None = None) -> None:
        """`augment`: what params.yaml names as own augmentation. UserError where images of a split in shards are to be
        drawn one by one."""
        if split.sharded and params.balance == "sampling":
            raise UserError(
                f"balance: sampling draws images one by one, but the {len(split):,} train images lie in shards, which "
                "are read as a whole. Set `balance: loss`, or have prepare write arrays, by a larger shards_above."
            )
        self.split = split
        self.seed = params.seed
        self.batch_size = min(params.batch_size, len(split))
        self.steps_per_epoch = len(split) // self.batch_size
        sides = (split.info.stored_size, split.info.image_size)
        self.augment = Augment(params, len(split), sides, split.device, augment)
        self.part: Places = world.shard(self.batch_size)
        # What has to be loaded for this part, and where it lies in that.
        self._needed: Places = self.part
        self._own: Places = slice(None)
        if self.augment.mixes and world.size > 1:
            part = paired_places(self.batch_size, world)
            needed = mirrored_places(part, self.batch_size)
            self.part, self._needed = part.to(split.device), needed.to(split.device)
            if len(needed) > len(part):
                self._own = torch.searchsorted(needed, part).to(split.device)
        if self.augment.needs_batch:
            self._needed, self._own = slice(0, self.batch_size), self.part
        self._by_class = (
            [indices for indices in indices_by_class(split.labels.cpu()) if len(indices)]
            if params.balance == "sampling"
            else []
        )

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        """Indices of an epoch's images, int64 N: all of them; balanced, as many of each class, to one image: of a class
        that has fewer, each once before any again."""
        if self.split.sharded:
            return order_in_windows(self.split.sharded.begins, generator)
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
        labels = self.split.labels[order.to(self.split.device)]
        needed, own = self._needed, self._own
        selections = order[first:, needed if isinstance(needed, slice) else needed.cpu()].to(self.split.indexed_on)
        for step, rows in enumerate(self.split.rows(selections), first):
            images = self.split.normalise(self.augment.pixels(rows, step, needed))
            images = self.augment.images(images, step, needed)
            images, mix = self.augment.mix(images, labels[step][needed], step, needed)
            if mix:
                mix = Mix(mix.labels[own], mix.share[own])
            yield TrainingBatch(images[own], labels[step][self.part], mix, self.batch_size)
