"""Augmentation: each change is what its name says, by plain definitions on small images, and as random as stated."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stages.common.params import load
from stages.train import augment
from stages.train.augment import Augment
from stages.train.params import TrainParams

CPU = torch.device("cpu")
ALL = slice(None)


@pytest.fixture
def params(workspace: Path) -> TrainParams:
    return load(TrainParams)


def on(params: TrainParams, **changes: Any) -> TrainParams:
    return params.model_copy(update=changes)


def started(params: TrainParams, *, images: int = 64, epoch: int = 1, steps: int = 4) -> Augment:
    """Augmentation of images 0, 1, 2, ... in order, in `steps` batches."""
    augmentation = Augment(params, images, (6, 6), CPU)
    augmentation.start_epoch(epoch, torch.arange(images).view(steps, -1))
    return augmentation


def random_rows(count: int, side: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, channels), dtype=torch.uint8, generator=torch.manual_seed(0))


def test_off_is_off(params: TrainParams) -> None:
    """The params for digits change nothing."""
    augmentation = started(params)
    rows, images = random_rows(16), torch.rand(16, 3, 6, 6)
    assert augmentation.pixels(rows, 0, ALL) is rows
    assert augmentation.images(images, 0, ALL) is images
    assert augmentation.mix(images, torch.arange(16), 0) == (images, None)


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_mirrors_left_and_right(channels: int) -> None:
    rows = random_rows(4, channels=channels)
    flipped = rows.clone()
    augment.flip_(flipped, torch.tensor([True, False, True, False]))
    for index, turned in enumerate([True, False, True, False]):
        expected = [list(reversed(line)) if turned else line for line in rows[index].tolist()]
        assert flipped[index].tolist() == expected


@pytest.mark.parametrize("side", [32, 64, 91])
@pytest.mark.parametrize("channels", [1, 3])
def test_flip_of_large_images(side: int, channels: int) -> None:
    """Mirrored one by one, or all at once."""
    rows = random_rows(20, side, channels)
    chosen = torch.rand(20, generator=torch.manual_seed(1)) < 0.5
    flipped = rows.clone()
    augment.flip_(flipped, chosen)
    assert torch.equal(flipped, torch.where(chosen[:, None, None, None], rows.flip(2), rows))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding", "cut"), [(1, 6), (3, 6), (5, 6), (0, 4), (2, 3)])
def test_crop_is_a_window_of_the_mirrored_image(padding: int, cut: int, channels: int) -> None:
    """Pixel (i, j) comes from (i + down - padding, j + right - padding), mirrored at the outermost pixels."""
    side = 6
    rows = random_rows(5, side, channels)
    generator = torch.manual_seed(1)
    down, right = (torch.randint(0, side + 2 * padding - cut + 1, (5,), generator=generator) for _ in range(2))
    cropped = augment.crop(rows, cut, padding, down, right)
    assert cropped.shape == (5, cut, cut, channels)

    def mirrored(place: int) -> int:
        place = abs(place)
        return place if place < side else 2 * (side - 1) - place

    for n in range(5):
        for i in range(cut):
            for j in range(cut):
                source = rows[n, mirrored(i + int(down[n]) - padding), mirrored(j + int(right[n]) - padding)]
                assert torch.equal(cropped[n, i, j], source)


def test_crop_takes_every_place_alike(params: TrainParams) -> None:
    augmentation = started(on(params, crop_padding=1), images=9000, steps=1)
    places = augmentation._draws["crop"][0]
    counts = torch.bincount(places[0] * 3 + places[1], minlength=9)
    assert counts.min() > 900
    assert counts.max() < 1100


def test_alternating_flip(params: TrainParams) -> None:
    """About half begin flipped; from epoch to epoch each image turns, whatever its place in the order."""
    augmentation = Augment(on(params, flip="alternating"), 1000, (6, 6), CPU)
    flips = []
    for epoch in (1, 2, 3):
        order = torch.randperm(1000, generator=torch.manual_seed(epoch)).view(10, 100)
        augmentation.start_epoch(epoch, order)
        flips.append(augmentation._draws["flip"].flatten()[order.flatten().argsort()])
    assert 400 < flips[0].sum() < 600
    assert torch.equal(flips[0], ~flips[1])
    assert torch.equal(flips[0], flips[2])


def test_random_flip_is_drawn_anew(params: TrainParams) -> None:
    first, second = (started(on(params, flip="random"), images=1000, epoch=epoch)._draws["flip"] for epoch in (1, 2))
    assert 400 < first.sum() < 600
    assert 400 < (first != second).sum() < 600


def test_resized_crop_enlarges_a_part() -> None:
    """With area 1 and ratio 1 nothing changes; a quarter of the area, at the top left, becomes twice as large."""
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(2, 3, 8, 8).contiguous()
    whole = augment.resized_crop(images, 8, 0.25, *(torch.full((2,), value) for value in (1.0, 0.5, 0.3, 0.7)))
    torch.testing.assert_close(whole, images, atol=1e-4, rtol=0)
    corner = augment.resized_crop(images, 8, 0.25, *(torch.full((2,), value) for value in (0.0, 0.5, 0.0, 0.0)))
    expected = torch.nn.functional.interpolate(images[:, :, :4, :4], size=8, mode="bilinear")
    # At the cut the enlarged part sees its neighbours, which interpolate does not.
    torch.testing.assert_close(corner[:, :, :7, :7], expected[:, :, :7, :7], atol=1e-4, rtol=0)


def test_erasing(params: TrainParams) -> None:
    """A rectangle of 2 to 33 % of about the asked share of images is 0; the rest is as it was."""
    size = 2000
    augmentation = started(on(params, erasing=0.25), images=size, steps=1)
    images = torch.ones(size, 3, 32, 32)
    erased = augmentation.images(images, 0, ALL) == 0
    changed = erased.flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.3
    assert images.min() == 1
    blanks = erased[changed]
    assert torch.equal(blanks[:, 0], blanks[:, 2])
    rows, columns = blanks[:, 0].any(2).sum(1), blanks[:, 0].any(1).sum(1)
    areas = blanks[:, 0].sum((1, 2))
    assert torch.equal(areas, rows * columns)
    assert 0.01 < areas.min() / 1024 < 0.03
    assert 0.29 < areas.max() / 1024 < 0.36


def test_mixup_blends_pairs(params: TrainParams) -> None:
    """Image i keeps its share of itself and takes the rest from the image as far from the batch's other end."""
    augmentation = started(on(params, mixup=0.4))
    images, labels = torch.rand(16, 3, 6, 6), torch.arange(16)
    mixed, mix = augmentation.mix(images, labels, 2)
    assert mix
    assert mix.labels.tolist() == list(range(15, -1, -1))
    for index in range(16):
        share = mix.share[index]
        torch.testing.assert_close(mixed[index], share * images[index] + (1 - share) * images[15 - index])
    assert mix.share.unique().numel() > 8


def test_cutmix_sets_in_a_rectangle(params: TrainParams) -> None:
    """Every pixel is one image's or the other's; `share` is exactly the part of pixels that stayed."""
    augmentation = started(on(params, cutmix=1.0))
    images = torch.arange(16.0).view(16, 1, 1, 1).expand(16, 3, 8, 8).contiguous()
    mixed, mix = augmentation.mix(images, torch.arange(16), 1)
    assert mix
    for index in range(16):
        stayed = mixed[index, 0] == index
        assert bool((stayed | (mixed[index, 0] == 15 - index)).all())
        assert stayed.float().mean() == pytest.approx(mix.share[index].item())
        foreign = ~stayed
        assert foreign.sum() == foreign.any(1).sum() * foreign.any(0).sum()
    assert mix.share.unique().numel() > 4


def test_shares_follow_the_beta_distribution(params: TrainParams) -> None:
    """Mean 1/2 and variance 1/(4(2a+1)) of Beta(a, a)."""
    for alpha in (0.2, 1.0, 3.0):
        share = started(on(params, mixup=alpha), images=20000, steps=10)._draws["share"]
        assert share.mean() == pytest.approx(0.5, abs=0.02)
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_mixup_and_cutmix_take_turns(params: TrainParams) -> None:
    """Each step is one or the other."""
    augmentation = started(on(params, mixup=1.0, cutmix=1.0), images=1600, steps=100)
    images = torch.arange(16.0).view(16, 1, 1, 1).expand(16, 1, 8, 8).contiguous()
    uniform = []
    for step in range(100):
        mixed, _ = augmentation.mix(images, torch.arange(16), step)
        uniform.append(bool((mixed.flatten(1).amax(1) - mixed.flatten(1).amin(1) < 1e-5).all()))
    assert 30 < sum(uniform) < 70


def test_what_happens_to_an_image_does_not_depend_on_other_changes(params: TrainParams) -> None:
    alone = started(on(params, crop_padding=2), images=200)._draws["crop"]
    together = started(on(params, crop_padding=2, flip="random", erasing=0.5, mixup=1.0), images=200)._draws["crop"]
    assert torch.equal(alone, together)
    other_seed = started(on(params, crop_padding=2, seed=1), images=200)._draws["crop"]
    assert not torch.equal(alone, other_seed)
