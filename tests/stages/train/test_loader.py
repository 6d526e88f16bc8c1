"""The stream of training batches is a function of (seed, epoch, step): not of where the images lie, nor of how many
processes share it, nor of where it begins."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stages.common.params import load
from stages.model.dataset import DatasetInfo, Split
from stages.train.distributed import World
from stages.train.loader import Loader, TrainingBatch
from stages.train.params import TrainParams

EVERYTHING: dict[str, Any] = {
    "flip": "random",
    "crop_padding": 1,
    "trivial_augment": True,
    "erasing": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}


def numbered(count: int, *, streamed: bool = False) -> Split:
    """A split whose labels are 0, 1, 2, ..., so that an order can be read off."""
    info = DatasetInfo(
        classes=["a"] * count, channels=1, image_size=4, stored_size=4, resize="crop", mean=[0.5], std=[0.25], sha256={}
    )
    pixels = torch.randint(0, 256, (count, 4, 4, 1), dtype=torch.uint8, generator=torch.manual_seed(0))
    return Split(pixels, torch.arange(count), info, streamed=streamed)


@pytest.fixture
def params(workspace: Path) -> TrainParams:
    return load(TrainParams)


def batches(
    split: Split, params: TrainParams, *, epoch: int = 1, first: int = 0, rank: int = 0, count: int = 1, **changes: Any
) -> list[TrainingBatch]:
    loader = Loader(split, params.model_copy(update={"batch_size": 10} | changes), World(rank, count))
    return list(loader.epoch(epoch, first))


def order(split: Split, params: TrainParams, **options: Any) -> list[int]:
    return [label for batch in batches(split, params, **options) for label in batch.labels.tolist()]


def tensors(batch: TrainingBatch) -> list[torch.Tensor]:
    return [batch.images, batch.labels, *(batch.mix or ())]


def equal(some: list[TrainingBatch], others: list[TrainingBatch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b)
        for one, other in zip(some, others, strict=True)
        for a, b in zip(tensors(one), tensors(other), strict=True)
    )


def test_order_is_a_function_of_seed_and_epoch(params: TrainParams) -> None:
    split = numbered(100)
    first = order(split, params)
    torch.manual_seed(1234)  # the global generator has no say
    assert order(split, params) == first
    assert order(split, params, epoch=2) != first
    assert order(split, params, seed=1) != first
    assert order(split, params, batch_size=7) == first[:98]


def test_balanced_sampling(params: TrainParams) -> None:
    """As many images of each class, each image of a small class as often, all of a large one over the epochs."""
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    split = numbered(100)
    seen = torch.zeros(100, dtype=torch.long)
    for epoch in range(1, 9):
        split.labels = labels
        loader = Loader(split, params.model_copy(update={"batch_size": 10, "balance": "sampling"}), World())
        split.labels = torch.arange(100)
        loader.split.labels = split.labels
        images = torch.cat([batch.labels for batch in loader.epoch(epoch)])
        counts = labels[images].bincount()
        assert len(images) == 100
        assert counts.max() - counts.min() <= 2
        times = images.bincount(minlength=100)
        assert set(times[90:].tolist()) <= {2, 3, 4}
        seen += times
    assert (seen > 0).all()


def test_every_image_once_an_epoch(params: TrainParams) -> None:
    """An epoch repeats nothing; what does not fill a last batch is left out; a small split is one batch."""
    assert sorted(order(numbered(100), params)) == list(range(100))
    assert len(set(order(numbered(103), params))) == 100
    assert sorted(order(numbered(5), params)) == list(range(5))


def test_images_belong_to_their_labels(params: TrainParams) -> None:
    split = numbered(30)
    for batch in batches(split, params):
        expected = split.normalise(split.images[batch.labels])
        assert torch.equal(batch.images, expected)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_the_same_from_any_step_on(params: TrainParams) -> None:
    """What a resumed run sees."""
    split = numbered(50)
    whole = batches(split, params, **EVERYTHING)
    assert equal(batches(split, params, first=3, **EVERYTHING), whole[3:])
    assert not equal(batches(split, params, epoch=2, **EVERYTHING), whole)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("changes", [{"flip": "alternating", "crop_padding": 2}, EVERYTHING], ids=["views", "mixed"])
def test_processes_share_the_same_batches(params: TrainParams, count: int, changes: dict[str, Any]) -> None:
    """Put together, the parts of 2, 3 or 4 processes are the batches of one, also where 10 does not divide by them."""
    split = numbered(40)
    whole = batches(split, params, **changes)
    parts = [batches(split, params, rank=rank, count=count, **changes) for rank in range(count)]
    assert {batch.size for part in parts for batch in part} == {10}
    for step, expected in enumerate(whole):
        joined = [torch.cat(pieces) for pieces in zip(*(tensors(part[step]) for part in parts), strict=True)]
        # Images that are mixed with each other are the same rank's; all labels are different.
        places = [expected.labels.tolist().index(label) for label in joined[1].tolist()]
        assert sorted(places) == list(range(10))
        assert all(torch.equal(a, b[places]) for a, b in zip(joined, tensors(expected), strict=True))


def test_streamed_is_bit_identical(params: TrainParams) -> None:
    """One batch ahead, nothing is lost, doubled or out of order."""
    whole = batches(numbered(40), params, **EVERYTHING)
    assert equal(batches(numbered(40, streamed=True), params, **EVERYTHING), whole)
    assert equal(batches(numbered(40, streamed=True), params, first=2, **EVERYTHING), whole[2:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_streamed_to_a_gpu_is_what_is_resident_there(params: TrainParams) -> None:
    gpu = torch.device("cuda")
    host = numbered(40)
    info = DatasetInfo(
        classes=["a"] * 40, channels=1, image_size=4, stored_size=4, resize="crop", mean=[0.5], std=[0.25], sha256={}
    )
    streamed = Split(host.images, host.labels, info, gpu, streamed=True)
    resident = Split(host.images.to(gpu), host.labels, info, gpu)
    assert equal(batches(streamed, params, **EVERYTHING), batches(resident, params, **EVERYTHING))
