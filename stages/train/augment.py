"""Random changes of training images, in batches on the device: no transform per image, no random number from a worker.

All numbers of an epoch are drawn at its start, on the CPU, from generators that (seed, epoch) seed, one for each kind
of change; step and place in the batch then index them. So what happens to an image does not depend on the device, on
how many processes share the batch, on where the run was resumed, or on which other changes are on. An own augmentation
gets whole batches and generators that (seed, epoch, step) seed, which promises the same.

torchvision's transforms draw once for a whole batch, from the global generator, and take seconds to import. Only
TrivialAugment is theirs, called for each image, with a seed for each.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from stages.common.extensions import Extension
from stages.model.runtime import seeded_generator, stream_seed
from stages.train.extensions import seed_augmentation
from stages.train.params import TrainParams

# From so many bytes on, images are mirrored one by one, in the processor's cache: many times as fast as all at once.
_LARGE = 8192
# Some places of a batch: all from one to another, or int64 n, ascending.
Places = slice | torch.Tensor
_ALL = slice(None)


class Mix(NamedTuple):
    """What MixUp or CutMix made of a batch: image i is `share[i]` itself, the rest the image of class `labels[i]`."""

    labels: torch.Tensor
    share: torch.Tensor


class Augment:
    """The changes that params.yaml asks for."""

    def __init__(
        self,
        params: TrainParams,
        images: int,
        sides: tuple[int, int],
        device: torch.device,
        own: Extension | None = None,
    ) -> None:
        """`images`: size of the train split; `sides`: of its images as they are stored, and as the model gets them, in
        pixels; `own`: what params.yaml names as `augment`."""
        self.params = params
        self.device = device
        stored, self.side = sides
        # How many places a window has along each side; a random resized crop draws windows of its own.
        self._places = stored + 2 * params.crop_padding - self.side + 1 if params.resized_crop == 1 else 1
        self._trivial = load_trivial_augment() if params.trivial_augment else None
        self.own = own
        self._epoch = self._size = 0
        self._draws: dict[str, torch.Tensor] = {}
        # The alternating flip needs to know of each image how it began.
        self._began_flipped = (
            (torch.rand(images, generator=seeded_generator(params.seed, "flip")) < 0.5).to(device)
            if params.flip == "alternating"
            else None
        )

    @property
    def mixes(self) -> bool:
        """Whether an image depends on another one of its batch."""
        return self.params.mixup > 0 or self.params.cutmix > 0

    @property
    def needs_batch(self) -> bool:
        """Whether all images of a batch have to be there: an own augmentation draws for all of them at once."""
        return self.own is not None

    def start_epoch(self, epoch: int, order: torch.Tensor) -> None:
        """Draw for all of an epoch; `order`: int64 steps×batch, the images' indices."""
        params, (steps, size) = self.params, order.shape
        self._epoch, self._size = epoch, size
        draws: dict[str, torch.Tensor] = {}

        def uniform(kind: str, *shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=seeded_generator(params.seed, kind, epoch))

        if params.flip == "random":
            draws["flip"] = uniform("flip", steps, size) < 0.5
        elif self._began_flipped is not None:
            draws["flip"] = self._began_flipped[order.to(self.device)] ^ (epoch % 2 == 0)
        if self._places > 1:
            draws["crop"] = (uniform("crop", steps, 2, size) * self._places).long()
        if params.resized_crop < 1:
            draws["resized_crop"] = uniform("resized_crop", steps, 4, size)
        if params.erasing:
            draws["erasing"] = uniform("erasing", steps, 5, size)
        if self.mixes:
            kinds = uniform("mix", steps) < (params.mixup > 0) * (0.5 if params.cutmix > 0 else 1.0)
            alpha = np.where(kinds[:, None], params.mixup, params.cutmix)
            # torch draws Beta from its global generator only.
            generator = np.random.default_rng(stream_seed(params.seed, "share", epoch))
            draws["share"] = torch.from_numpy(generator.beta(alpha, alpha, (steps, size))).float()
            draws["is_mixup"] = kinds
            draws["box"] = uniform("box", steps, 2, size)
        self._draws = {name: draw.to(self.device) for name, draw in draws.items()}

    def pixels(self, rows: torch.Tensor, step: int, part: Places) -> torch.Tensor:
        """Flip, move and change: uint8 n×H×W×C, those of `part` of the step's batch, → squares of image_size, unless a
        random resized crop is to make them. `rows` may be changed."""
        if "flip" in self._draws:
            flip_(rows, self._draws["flip"][step][part])
        if "crop" in self._draws:
            rows = crop(rows, self.side, self.params.crop_padding, *self._draws["crop"][step][:, part])
        if self._trivial:
            places = torch.arange(step * self._size, (step + 1) * self._size)[_on_cpu(part)].tolist()
            seeds = (stream_seed(self.params.seed, "trivial_augment", self._epoch, place) for place in places)
            rows = trivial_augment(self._trivial, rows, seeds)
        return rows

    def images(self, images: torch.Tensor, step: int, part: Places) -> torch.Tensor:
        """Cut out, resize and blank, then what is own: normalised float32 n×C×H×W → n×C×image_size×image_size."""
        if "resized_crop" in self._draws:
            draws = self._draws["resized_crop"][step][:, part]
            images = resized_crop(images, self.side, self.params.resized_crop, *draws)
        if "erasing" in self._draws:
            images = erase(images, self.params.erasing, *self._draws["erasing"][step][:, part])
        if self.own:
            seed_augmentation(self.device, stream_seed(self.params.seed, "augment", self._epoch, step))
            images = self.own(images)
        return images

    def mix(
        self, images: torch.Tensor, labels: torch.Tensor, step: int, part: Places = _ALL
    ) -> tuple[torch.Tensor, Mix | None]:
        """Blend the images of a batch with those of the batch in reverse order; `images` and `labels` are those of
        `part`, which has with each place the one as far from the batch's other end."""
        if not self.mixes:
            return images, None
        whole = self._draws["share"][step]
        share = whole[part]
        sides = images.shape[2:]
        if self.params.cutmix > 0:
            keep = box_outside(images, share, *self._draws["box"][step][:, part])
            if self.params.mixup > 0:
                # The kind is one for the batch; both are computed so that a GPU need not be asked which.
                keep = torch.where(self._draws["is_mixup"][step], share[:, None, None, None], keep)
            kept = keep.mean((1, 2, 3))
        else:
            keep = share[:, None, None, None].expand(-1, 1, *sides)
            # Of all, because the order of sums depends on how many there are; of a few, they are not the same bits.
            kept = whole[:, None, None, None].expand(-1, 1, *sides).mean((1, 2, 3))[part]
        mixed = torch.lerp(images.flip(0), images, keep)
        return mixed, Mix(labels.flip(0), kept)


def load_trivial_augment() -> "Callable[[torch.Tensor], torch.Tensor]":
    """torchvision's TrivialAugmentWide (Müller and Hutter, "TrivialAugment", 2021): uint8 C×H×W → the same."""
    from torchvision.transforms import InterpolationMode, v2

    transform: Callable[[torch.Tensor], torch.Tensor] = v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
    return transform


def trivial_augment(
    transform: "Callable[[torch.Tensor], torch.Tensor]", rows: torch.Tensor, seeds: Iterable[int]
) -> torch.Tensor:
    """Change each image, uint8 n×H×W×C, as its seed says; torchvision draws from PyTorch's generator of the CPU."""
    changed = torch.empty_like(rows)
    for index, seed in enumerate(seeds):
        torch.default_generator.manual_seed(seed)
        changed[index] = transform(rows[index].permute(2, 0, 1)).permute(1, 2, 0)
    return changed


def square_root(numbers: torch.Tensor) -> torch.Tensor:
    """The root, correctly rounded, of float32 n. On a CPU torch.sqrt is MKL's, whose last bit depends on the maker."""
    return torch.from_numpy(np.sqrt(numbers.numpy())) if numbers.device.type == "cpu" else numbers.sqrt()


def flip_(rows: torch.Tensor, flipped: torch.Tensor) -> None:
    """Mirror left and right, in their place, the images, n×H×W×C, for which `flipped`, bool n, says so."""
    if rows.device.type != "cpu":
        # Which ones, a GPU need not be asked.
        rows.copy_(torch.where(flipped[:, None, None, None], rows.flip(2), rows))
        return
    chosen = torch.nonzero(flipped)[:, 0]
    if rows[0].nbytes < _LARGE:
        rows.index_copy_(0, chosen, rows.index_select(0, chosen).flip(2))
        return
    for index in chosen.tolist():
        rows[index].copy_(rows[index].flip(1))


def _on_cpu(part: Places) -> Places:
    return part if isinstance(part, slice) else part.cpu()


def crop(rows: torch.Tensor, side: int, padding: int, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cut squares of `side` pixels out of square images, n×H×H×C, that `padding` pixels of their mirror image surround;
    offsets: int64 n."""
    count, height, _, channels = rows.shape
    padded = mirror_borders(rows, padding) if padding else rows
    by_image, by_row, by_column, by_channel = padded.stride()
    places = height + 2 * padding - side + 1
    # A view of every position of the window, from which one is copied for each image.
    windows = padded.as_strided(
        (count, places, places, side, side, channels),
        (by_image, by_row, by_column, by_row, by_column, by_channel),
    )
    return windows[torch.arange(count, device=rows.device), down, right]


def mirror_borders(rows: torch.Tensor, padding: int) -> torch.Tensor:
    """n×H×W×C → n×(H+2p)×(W+2p)×C, mirrored at the outermost pixels; p < H and W. F.pad refuses uint8."""
    count, height, width, channels = rows.shape
    padded = rows.new_empty(count, height + 2 * padding, width + 2 * padding, channels)
    middle = padded[:, padding:-padding]
    middle[:, :, padding:-padding] = rows
    middle[:, :, :padding] = rows[:, :, 1 : padding + 1].flip(2)
    middle[:, :, -padding:] = rows[:, :, -padding - 1 : -1].flip(2)
    padded[:, :padding] = middle[:, 1 : padding + 1].flip(1)
    padded[:, -padding:] = middle[:, -padding - 1 : -1].flip(1)
    return padded


def resized_crop(
    images: torch.Tensor,
    side: int,
    least: float,
    area: torch.Tensor,
    aspect: torch.Tensor,
    down: torch.Tensor,
    right: torch.Tensor,
) -> torch.Tensor:
    """Cut out a part of n×C×H×W and resize it to `side`×`side`, bilinearly; the last four are uniform in 0 to 1, n.

    Area and aspect ratio as in Szegedy et al., "Going Deeper with Convolutions" (2014): area uniform from `least` to 1,
    the ratio log-uniform from 3:4 to 4:3; a side that would be longer than the image's is as long.
    """
    area = least + (1 - least) * area
    ratio = ((aspect * 2 - 1) * math.log(4 / 3)).exp()
    width, height = square_root(area * ratio).clamp(max=1), square_root(area / ratio).clamp(max=1)
    zero = torch.zeros_like(area)
    across = torch.stack((width, zero, (1 - width) * (2 * right - 1)), 1)
    along = torch.stack((zero, height, (1 - height) * (2 * down - 1)), 1)
    grid = F.affine_grid(torch.stack((across, along), 1), [*images.shape[:2], side, side], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def erase(
    images: torch.Tensor,
    probability: float,
    chance: torch.Tensor,
    area: torch.Tensor,
    aspect: torch.Tensor,
    down: torch.Tensor,
    right: torch.Tensor,
) -> torch.Tensor:
    """Set a rectangle of some images, n×C×H×W, to 0, which is the train split's mean; the last five are uniform, n.

    Zhong et al., "Random Erasing Data Augmentation" (2017): 2 to 33 % of the area, aspect ratio 0.3 to 3.3; a side that
    would be longer than the image's is as long.
    """
    area = 0.02 + 0.31 * area
    ratio = ((aspect * 2 - 1) * math.log(10 / 3)).exp()
    height, width = square_root(area * ratio).clamp(max=1), square_root(area / ratio).clamp(max=1)
    blank = _box(images, height, width, down, right) & (chance < probability)[:, None, None, None]
    return images.masked_fill(blank, 0)


def box_outside(images: torch.Tensor, share: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Float n×1×H×W: 0 in a box of 1 - `share` of the area, 1 around it; its place is uniform in 0 to 1, n.

    Yun et al., "CutMix" (2019).
    """
    side = square_root(1 - share)
    return (~_box(images, side, side, down, right)).float()


def _box(
    images: torch.Tensor, height: torch.Tensor, width: torch.Tensor, down: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """Bool n×1×H×W: whether a pixel lies in the rectangle that has these shares of the sides, all of it inside."""

    def inside(pixels: int, length: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        length = (length * pixels).round()
        first = (place * (pixels - length + 1)).floor().clamp(max=pixels - 1)[:, None]
        position = torch.arange(pixels, device=images.device)
        return (position >= first) & (position < first + length[:, None])

    rows = inside(images.shape[2], height, down)
    columns = inside(images.shape[3], width, right)
    return rows[:, None, :, None] & columns[:, None, None, :]
