"""Batches: normalised with the train split's figures, in an order that (seed, epoch) decides."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages import prepare
from stages.dataset import DatasetInfo, Split, load_info
from stages.errors import UserError

CPU = torch.device("cpu")


def numbered(count: int) -> Split:
    """A split whose labels are 0, 1, 2, ..., so that an order can be read off."""
    info = DatasetInfo(classes=["a"] * count, channels=1, image_size=2, mean=[0.0], std=[1.0])
    return Split(torch.zeros(count, 2, 2, 1, dtype=torch.uint8), torch.arange(count), info)


def order(split: Split, batch_size: int, seed: int, epoch: int) -> list[int]:
    return [label for batch in split.shuffled_batches(batch_size, seed, epoch) for label in batch.labels.tolist()]


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
        split.images.fill_(200)
    first, *others = (next(iter(split.batches(1))).images for split in splits)
    assert all(torch.equal(first, other) for other in others)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    split = numbered(100)
    first = order(split, 10, seed=0, epoch=1)
    torch.manual_seed(1234)  # the global generator has no say
    assert order(split, 10, seed=0, epoch=1) == first
    assert order(split, 10, seed=0, epoch=2) != first
    assert order(split, 10, seed=1, epoch=1) != first
    assert order(split, 7, seed=0, epoch=1) == first[:98]


def test_every_image_once_an_epoch() -> None:
    """An epoch repeats nothing; what does not fill a last batch is left out; a small split is one batch."""
    assert sorted(order(numbered(100), 10, 0, 1)) == list(range(100))
    assert len(set(order(numbered(103), 10, 0, 1))) == 100
    assert sorted(order(numbered(5), 10, 0, 1)) == list(range(5))


def test_evaluation_takes_every_image_in_order() -> None:
    labels = [label for batch in numbered(103).batches(10) for label in batch.labels.tolist()]
    assert labels == list(range(103))


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
