"""Batches: normalised with the train split's figures, in an order that (seed, epoch) decides."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common.errors import UserError
from stages.model.dataset import DatasetInfo, Split, load_info
from stages.prepare import __main__ as prepare

CPU = torch.device("cpu")


def numbered(count: int) -> Split:
    """A split whose labels are 0, 1, 2, ..., so that an order can be read off."""
    info = DatasetInfo(
        classes=["a"] * count, channels=1, image_size=2, stored_size=2, resize="crop", mean=[0.0], std=[1.0], sha256={}
    )
    return Split(torch.zeros(count, 2, 2, 1, dtype=torch.uint8), torch.arange(count), info)


def test_train_is_normalised_to_mean_0_and_deviation_1(image_workspace: Path) -> None:
    prepare.main()
    split = Split.load("train", load_info(), CPU)
    (batch,) = split.batches(1000)
    assert batch.images.shape == (len(split), 1, 8, 8)
    assert batch.images.mean().item() == pytest.approx(0, abs=1e-4)
    assert batch.images.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_train_and_val_are_normalised_alike(image_workspace: Path) -> None:
    """The same grey level gives the same number in every split."""
    prepare.main()
    info = load_info()
    splits = [Split.load(name, info, CPU) for name in ("train", "val", "test")]
    for split in splits:
        split.images.fill_(200)  # in memory: the file is mapped copy-on-write
    first, *others = (next(iter(split.batches(1))).images for split in splits)
    assert all(torch.equal(first, other) for other in others)


def test_evaluation_takes_every_image_in_order() -> None:
    labels = [label for batch in numbered(103).batches(10) for label in batch.labels.tolist()]
    assert labels == list(range(103))


def test_evaluation_of_a_part() -> None:
    """What one of several processes evaluates."""
    labels = [batch.labels.tolist() for batch in numbered(103).batches(10, slice(51, 103))]
    assert [len(part) for part in labels] == [10] * 5 + [2]
    assert [label for part in labels for label in part] == list(range(51, 103))


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_to_the_definition(channels: int) -> None:
    """(value / 255 - mean) / std, channel by channel, N×C×H×W in channels_last memory."""
    mean, std = [0.1, 0.2, 0.3][:channels], [0.4, 0.5, 0.6][:channels]
    info = DatasetInfo(["a"], channels, 5, 5, "crop", mean, std, sha256={})
    rows = torch.randint(0, 256, (7, 5, 5, channels), dtype=torch.uint8, generator=torch.manual_seed(0))
    images = Split(rows, torch.zeros(7), info).normalise(rows)
    for channel in range(channels):
        expected = (rows[..., channel] / 255 - info.mean[channel]) / info.std[channel]
        torch.testing.assert_close(images[:, channel], expected)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_split(image_workspace: Path) -> None:
    prepare.main()
    np.save("prepared/val-images.npy", np.zeros((0, 8, 8, 1), np.uint8))
    np.save("prepared/val-labels.npy", np.zeros(0, np.int64))
    with pytest.raises(UserError, match="no image in the val split"):
        Split.load("val", load_info(), CPU)


def test_the_arrays_are_mapped(image_workspace: Path) -> None:
    """A split takes no memory of its own, and what is done to its images in memory does not reach the file."""
    prepare.main()
    before = Path("prepared/train-images.npy").read_bytes()
    split = Split.load("train", load_info(), CPU)
    assert split.placement == "mapped"
    assert "train-images.npy" in Path("/proc/self/maps").read_text()
    split.images.fill_(0)
    assert Path("prepared/train-images.npy").read_bytes() == before


def test_arrays_that_are_missing_or_of_another_shape(image_workspace: Path) -> None:
    prepare.main()
    info = load_info()
    path = Path("prepared/val-images.npy")
    np.save(path, np.zeros((3, 8, 8, 1), np.uint8))
    with pytest.raises(UserError, match=r"val-images\.npy: expected uint8"):
        Split.load("val", info, CPU)
    path.write_bytes(b"short")
    with pytest.raises(UserError, match=r"val-images\.npy: "):
        Split.load("val", info, CPU)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        Split.load("val", info, CPU)
    Path("prepared/dataset.json").write_text('{"classes": []}')
    with pytest.raises(UserError, match="no key 'channels'"):
        load_info()
