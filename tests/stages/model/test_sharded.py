"""A split in shards is the split in an array, in the order of its shards: the same images, batches and weights."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.common.errors import UserError
from stages.common.params import load
from stages.evaluate import __main__ as evaluate
from stages.model import sharded
from stages.model.checked_split import load_rows
from stages.model.dataset import DatasetInfo, Split, load_info
from stages.model.sharded import ShardedImages
from stages.model.sources import LocalShards, ShardSource
from stages.model.trained import MODEL, WEIGHTS
from stages.prepare import __main__ as prepare
from stages.prepare import sharded as writer
from stages.train import __main__ as train
from stages.train import loader as loaders
from stages.train.distributed import World
from stages.train.loader import Loader, TrainingBatch, order_in_windows
from stages.train.params import TrainParams
from tests.interruption import TWO_PROCESSES
from tests.interruption import train as train_apart
from tests.project import BIN, edit_params, sample_params, write_images

CPU = torch.device("cpu")
EVERYTHING: dict[str, Any] = {
    "flip": "random",
    "crop_padding": 1,
    "resized_crop": 0.5,
    "erasing": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose images lie in shards of a few, without loss; not to be changed."""
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "params.yaml").write_text(sample_params())
    write_images(folder / "data", {"cat": 60, "dog": 60, "owl": 60}, side=48, colour=True)
    edit_params(folder, image_size=48, shards_above=1, shard_quality=0, model="simplenet", epochs=2, batch_size=20)
    edit_params(folder, threads=1, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["stage"])
        patch.setattr(writer, "_MOST_BYTES", 2**16)
        prepare.main()
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `template`, the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["stage"])
    return folder


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of two shards."""
    for module in (sharded, loaders):
        monkeypatch.setattr(module, "WINDOW", 2)


def shards_of(split: Split) -> ShardedImages:
    assert split.sharded
    return split.sharded


def as_array(split: Split) -> Split:
    """The same images in an array, in the same order."""
    (rows,) = split.rows([slice(None)])
    return Split(rows, split.labels, split.info)


def batches(split: Split, *, first: int = 0, rank: int = 0, count: int = 1, **changes: Any) -> list[TrainingBatch]:
    loader = Loader(split, load(TrainParams).model_copy(update=changes), World(rank, count))
    return list(loader.epoch(1, first))


def tensors(batch: TrainingBatch) -> list[torch.Tensor]:
    return [batch.images, batch.labels, *(batch.mix or ())]


def equal(some: Sequence[TrainingBatch], others: Sequence[TrainingBatch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b)
        for one, other in zip(some, others, strict=True)
        for a, b in zip(tensors(one), tensors(other), strict=True)
    )


def in_the_order_of(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the loader take images of any split in the order of this one."""
    begins = shards_of(split).begins
    monkeypatch.setattr(Loader, "_order", lambda _, generator: order_in_windows(begins, generator))


class Recorded(LocalShards):
    """What is asked of the source, as (verb, shard)."""

    def __init__(self, source: ShardSource) -> None:
        assert isinstance(source, LocalShards)
        vars(self).update(vars(source))
        self.asked: list[tuple[str, int]] = []

    def fetch(self, shards: Sequence[int]) -> None:
        self.asked += [("fetch", shard) for shard in shards]

    def path(self, shard: int) -> Path:
        self.asked.append(("path", shard))
        return super().path(shard)

    def release(self, shard: int) -> None:
        self.asked.append(("release", shard))

    def shards(self, verb: str) -> list[int]:
        return [shard for asked, shard in self.asked if asked == verb]

    def most(self, begin: str) -> int:
        """How many at most have begun, and are not released."""
        held: set[int] = set()
        most = 0
        for verb, shard in self.asked:
            held = held | {shard} if verb == begin else held - {shard} if verb == "release" else held
            most = max(most, len(held))
        return most


def recorded(split: Split) -> Recorded:
    source = Recorded(shards_of(split).source)
    shards_of(split)._source = source
    return source


def test_images_labels_and_rows_belong_together(project: Path) -> None:
    """Each image is the one of the array that its row of the manifest names."""
    split = Split.load("train", load_info(), CPU)
    assert len(shards_of(split).begins) > 6
    assert split.placement == "in shards"
    digests = [row["sha256"] for row in load_rows("train", split)]
    some = torch.tensor([5, 100, 5, 0])
    (rows,) = split.rows([some])
    evaluated = [batch.images for batch in split.batches(7)]
    edit_params(project, shards_above=0)
    shutil.rmtree("prepared")
    prepare.main()
    mapped = Split.load("train", load_info(), CPU)
    places = {row["sha256"]: place for place, row in enumerate(load_rows("train", mapped))}
    order = torch.tensor([places[digest] for digest in digests])
    assert sorted(order.tolist()) == list(range(len(mapped)))
    assert torch.equal(mapped.labels[order], split.labels)
    assert torch.equal(torch.cat(evaluated), mapped.seen(mapped.images[order]))
    assert torch.equal(rows, mapped.images[order[some]])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_same_batches_as_from_an_array(
    project: Path, windows: None, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Of one process, two and four, from any step on."""
    split = Split.load("train", load_info(), CPU)
    expected = batches(split, **EVERYTHING)
    in_the_order_of(split, monkeypatch)
    whole = batches(as_array(split), **EVERYTHING)
    assert equal(expected, whole)
    assert equal(batches(split, first=2, **EVERYTHING), whole[2:])
    parts = [batches(split, rank=rank, count=count, first=1, **EVERYTHING) for rank in range(count)]
    for step, batch in enumerate(whole[1:]):
        together = [torch.cat(pieces) for pieces in zip(*(tensors(part[step]) for part in parts), strict=True)]
        joined, there = (
            sorted(zip(images.flatten(1).tolist(), labels.tolist(), strict=True))
            for images, labels in (together[:2], tensors(batch)[:2])
        )
        assert joined == there


def test_order(project: Path, windows: None) -> None:
    """A function of seed and epoch; each image once, in windows of shards."""
    begins = shards_of(Split.load("train", load_info(), CPU)).begins
    number = torch.repeat_interleave(torch.arange(len(begins) - 1), begins.diff())
    orders = [order_in_windows(begins, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].sort().values, torch.arange(len(number)))
    seen = number[orders[0]].tolist()
    first = list(dict.fromkeys(seen))
    windows_of = [set(first[start : start + 2]) for start in range(0, len(first), 2)]
    place = 0
    for window in windows_of:
        size = sum(shard in window for shard in seen)
        assert set(seen[place : place + size]) == window
        place += size


def test_each_shard_is_read_once_and_let_go(project: Path, windows: None) -> None:
    """An epoch in windows, from its first step or a later one, and evaluation, which goes from shard to shard."""
    split = Split.load("train", load_info(), CPU)
    source = recorded(split)
    batches(split, batch_size=1)  # each window is of several
    number = len(shards_of(split).begins) - 1
    assert sorted(source.shards("path")) == sorted(source.shards("release")) == list(range(number))
    assert source.shards("fetch") == list(dict.fromkeys(source.shards("fetch")))
    assert source.most("fetch") == 4
    assert source.most("path") <= 4
    source.asked.clear()
    batches(split, batch_size=1, first=len(split) - 4)
    assert len(source.shards("path")) <= 4
    assert sorted(source.shards("path")) == sorted(source.shards("release"))
    source.asked.clear()
    list(split.batches(7))
    assert source.shards("path") == source.shards("release") == list(range(number))
    source.asked.clear()
    next(split.batches(7))
    assert sorted(source.shards("fetch")) == sorted(source.shards("release"))


@pytest.mark.slow
def test_weights_are_those_of_the_array(project: Path, windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on, and evaluated; and the model's description does not grow with the number of shards."""
    train.main()
    weights, description = load_file(WEIGHTS), json.loads(MODEL.read_text())
    assert set(description["sha256"]) == {
        f"{split}-{part}" for split in ("train", "val", "test") for part in ("images.npy", "labels.npy", "shards")
    }
    evaluate.main()
    in_the_order_of(Split.load("train", load_info(), CPU), monkeypatch)
    loaded = Split.load
    monkeypatch.setattr(Split, "load", lambda *given: as_array(loaded(*given)))
    WEIGHTS.unlink()
    train.main()
    again = load_file(WEIGHTS)
    assert all(torch.equal(weights[name], again[name]) for name in weights | again)


@pytest.mark.slow
def test_processes_share_shards(project: Path) -> None:
    """Two processes of a split in one shard learn what one does."""
    edit_params(project, batch_size=30, mixup=0.3, flip="random", epochs=1)
    losses = []
    for launcher in ((str(BIN / "python"),), TWO_PROCESSES):
        done = train_apart(project, launcher=launcher)
        assert done.returncode == 0, done.stderr
        assert "train images, in shards" in done.stdout
        losses.append([float(value) for value in Path("plots/curves.csv").read_text().splitlines()[1].split(",")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def shard(number: int) -> Path:
    return sorted(Path("prepared/shards").glob("train-*.bin"))[number]


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: shard(1).unlink(), r"prepared/shards/train-\d+\.bin: no such file\. `dvc repro prepare`"),
    "truncated": (lambda: shard(1).write_bytes(shard(1).read_bytes()[:-1]), "bytes; expected .*, by the places"),
    "of another version": (lambda: damage(shard(1), -5), "not the shard of prepared/dataset.json, which says SHA-256"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_shard_that_is_not_as_prepare_wrote_it(project: Path, name: str) -> None:
    split = Split.load("train", load_info(), CPU)
    change, message = BAD[name]
    change()
    with pytest.raises(UserError, match=message):
        list(split.batches(7))


def test_places_that_are_others(project: Path) -> None:
    """Of another version, of fewer images, out of order: said before an image is decoded."""
    path = Path("prepared/train-images.npy")
    places = np.load(path)
    info = load_info()
    swapped = places.copy()
    swapped["offset"] = swapped["offset"] + 1
    np.save(path, swapped)
    with pytest.raises(UserError, match=r"train-images\.npy: its offsets are not those of shards"):
        Split.load("train", info, CPU)
    np.save(path, places[:-1])
    with pytest.raises(UserError, match=r"train-images\.npy: .* images, but .* labels"):
        Split.load("train", info, CPU)
    np.save(path, places)
    described = json.loads(Path("prepared/dataset.json").read_text())
    names = [name for name in described["sha256"] if name.startswith("shards/train")]
    del described["sha256"][names[0]]
    Path("prepared/dataset.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=f"in {len(names)} shards; expected the {len(names) - 1} that"):
        Split.load("train", load_info(), CPU)


def test_a_damaged_picture(project: Path) -> None:
    """What prepare wrote so, or what a disk has made of it since it was checked."""
    split = Split.load("train", load_info(), CPU)
    list(split.batches(50))
    damage(shard(0), 1000)
    with pytest.raises(UserError, match=r"train-\d+\.bin: image \d+ of prepared/train-images\.npy: damaged"):
        list(split.batches(50))


def test_what_needs_an_array_says_so(project: Path) -> None:
    split = Split.load("train", load_info(), CPU)
    with pytest.raises(UserError, match="images lie in shards, and cannot be had as one array"):
        split.images  # noqa: B018
    with pytest.raises(UserError, match=r"balance: sampling draws images one by one, .* Set `balance: loss`"):
        batches(split, balance="sampling")
    assert isinstance(split.info, DatasetInfo)
