"""What a stage that is run again sees: its own deps, and nothing of a link's other side."""

import json
from pathlib import Path
from typing import Any

import pytest

from review.cleanroom import Cleanroom
from review.reproduce import shards_of
from review.visible import Visible
from stages.common.errors import UserError


def lock_of(**stages: tuple[list[str], list[str]]) -> dict[str, Any]:
    """By stage, its deps and its outs."""
    entries = {
        name: {kind: [{"path": path} for path in paths] for kind, paths in zip(("deps", "outs"), of_stage, strict=True)}
        for name, of_stage in stages.items()
    }
    return {"stages": entries}


def make(place: Path, *paths: str) -> None:
    for path in paths:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(path)


def files(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}


def test_a_stage_sees_its_deps(tmp_path: Path) -> None:
    """Not other stages' outputs, other data, or files that no stage lists; what was claimed is gone."""
    place = tmp_path / "checkout"
    settings = {"dvc.yaml", "dvc.lock", "data.dvc", "params.yaml", "stages/a.py", "claim/dvc.yaml"}
    make(
        place,
        *settings,
        "data/1.png",
        "docs/boost.txt",
        "stages/a.txt",
        "claim/test.json",
        "metrics/train.json",
        "models/README.md",
    )
    lock = lock_of(
        prepare=(["data", "stages"], ["prepared"]),
        train=(["prepared/train.npy", "stages"], ["models/model.json", "metrics/train.json"]),
    )
    lock["stages"]["train"]["params"] = {"params.yaml": {}}
    lock["stages"]["prepare"]["params"] = {"params.yaml": {}}
    visible = Visible(Cleanroom(place, confined=True), lock, ["prepare", "train"])
    with visible.to("prepare"):
        assert files(place) == settings | {"data/1.png"}
        make(place, "prepared/train.npy", "prepared/test.npy")
    with visible.to("train"):
        assert files(place) == settings | {"prepared/train.npy"}
        make(place, "models/model.json", "metrics/train.json", "prepared/test.npy", "docs/boost.txt")
        (place / "prepared/test.npy").write_text("another")
    assert (place / "prepared/test.npy").read_text() == "prepared/test.npy"
    unlisted = {
        "data/1.png",
        "docs/boost.txt",
        "stages/a.txt",
        "claim/test.json",
        "models/README.md",
        "prepared/test.npy",
    }
    assert files(place) == settings | unlisted | {"prepared/train.npy", "models/model.json", "metrics/train.json"}


@pytest.mark.parametrize("out", ["metrics/train.json", "../mine/train.json", "/etc/train.json"])
def test_nothing_outside_is_removed(tmp_path: Path, out: str) -> None:
    """A commit may have a link in place of a folder, and dvc.lock any path."""
    place, mine = tmp_path / "checkout", tmp_path / "mine"
    make(mine, "train.json")
    place.mkdir()
    (place / "metrics").symlink_to(mine)
    with pytest.raises(UserError, match="expected a"):
        Visible(Cleanroom(place, confined=True), lock_of(train=([], [out])), ["train"])
    assert (mine / "train.json").exists()


def test_nothing_outside_is_replaced(tmp_path: Path) -> None:
    """A stage may put a link in place of a folder of which it sees a part."""
    place, mine = tmp_path / "checkout", tmp_path / "mine"
    make(mine, "test.npy")
    make(place, "prepared/train.npy", "prepared/test.npy")
    visible = Visible(Cleanroom(place, confined=True), lock_of(train=(["prepared/train.npy"], [])), ["train"])
    with pytest.raises(UserError, match="prepared: expected a folder, got a link"), visible.to("train"):
        (place / "prepared").rename(place / "away")
        (place / "prepared").symlink_to(mine)
    assert (mine / "test.npy").read_text() == "test.npy"


def test_images_in_shards_are_seen_with_their_places(tmp_path: Path) -> None:
    """Of the splits that a stage lists: a dep names the places, as arrays have no shards."""
    place = tmp_path / "checkout"
    train, test = (
        {f"prepared/{split}-images.npy", f"prepared/shards/{split}-0000000.bin"} for split in ("train", "test")
    )
    make(place, *train, *test, "prepared/shards/other")
    lock = lock_of(train=(["prepared/train-images.npy"], []))
    with Visible(Cleanroom(place, confined=True), lock, ["train"]).to("train"):
        assert files(place) == train
    assert files(place) == train | test | {"prepared/shards/other"}


def test_the_shards_of_deps_are_fetched(tmp_path: Path) -> None:
    digests = {f"{split}-{part}.npy": "" for split in ("train", "test") for part in ("images", "labels")}
    assert list(shards_of(tmp_path, ["prepared/train-images.npy"])) == []
    make(tmp_path, "prepared/dataset.json")
    description = tmp_path / "prepared/dataset.json"
    description.write_text(json.dumps({"sha256": digests}))
    assert list(shards_of(tmp_path, ["prepared/train-images.npy"])) == []
    names = [f"shards/{split}-{number:07}.bin" for split in ("train", "test") for number in (1, 0)]
    description.write_text(json.dumps({"sha256": digests | dict.fromkeys([*names, "shards/../../x.bin"], "")}))
    expected = ["prepared/shards/train-0000000.bin", "prepared/shards/train-0000001.bin"]
    assert list(shards_of(tmp_path, ["prepared/train-images.npy"])) == expected
    description.write_text('{"sha256": 3}')
    with pytest.raises(UserError, match="not what prepare writes"):
        list(shards_of(tmp_path, ["prepared/train-images.npy"]))
