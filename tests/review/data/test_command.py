"""`python -m review data` from features to files: a planted wrong label is found, shown, and not asked again."""

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from review.data import command, features, options
from review.data.features import Features, Image
from review.significance import Prediction
from stages.common import corrections, tables
from stages.common.errors import UserError
from tests.project import run

_CLASSES = ("cat", "dog")
_EACH = {"train": 30, "val": 20, "test": 10}


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return parser.parse_args(arguments)


def image(split: str, number: int, label: str) -> Image:
    sha256 = hashlib.sha256(f"{split} {number}".encode()).hexdigest()
    return Image(split, f"{label}/{split}-{number:03}.png", label, sha256, "", 40, 40, 128.0, 40.0, 900.0, 0.1, "", "")


def features_of(images: Sequence[Image], classes: Sequence[int], *, own_model: bool = False) -> Features:
    """Two clouds, one for each class."""
    vectors = np.random.default_rng(0).normal(size=(len(images), 8)) + 5 * np.array(classes)[:, None]
    return Features(
        list(images),
        vectors.astype(np.float32),
        {"features_of": "weights x", "own_model": own_model, "manifest_sha256": "0" * 64},
    )


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Features:
    """A project that was looked at, the current folder; the first image is a cat that looks like a dog."""
    monkeypatch.chdir(tmp_path)
    run("git init --quiet", tmp_path)
    images, classes = [], []
    for split, count in _EACH.items():
        for number in range(count):
            classes.append(number % 2 or (split, number) == ("train", 0))
            images.append(image(split, number, _CLASSES[number % 2]))
        pixels = np.random.default_rng(count).integers(0, 256, (count, 40, 40, 3), np.uint8)
        (tmp_path / "prepared").mkdir(exist_ok=True)
        np.save(tmp_path / f"prepared/{split}-images.npy", pixels)
    rows = ((one.path, one.label, one.split, one.sha256, "kept") for one in images)
    tables.write(tmp_path / "prepared/manifest.csv", ("path", "class", "split", "sha256", "status"), rows)
    found = features_of(images, classes)
    monkeypatch.setattr(features, "read", lambda: found)
    return found


@pytest.mark.slow
def test_page_and_table(looked: Features, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(parse())
    wrong = looked.images[0]
    rows = tables.parse(command.SUSPECTS.read_bytes())
    assert [row["path"] for row in rows if row["finding"] == "label"] == [wrong.path]
    page = options.PAGE.read_text()
    assert "labelled cat, looks like dog" in page
    assert page.count("data:image/jpeg;base64,") >= 3
    printed = capsys.readouterr().out
    assert re.search(r"^suspected labels  1, most often cat → dog \(1\)$", printed, re.M)
    assert re.search(r"^page              reports/data\.html, \d+ kB: open it in a browser$", printed, re.M)
    assert len(printed.splitlines()) <= 15

    decided = corrections.Correction(wrong.path, wrong.sha256, "keep", "", "seen, a cat")
    corrections.write(corrections.FILE, [decided])
    command.main(parse("--output", "elsewhere/page.html"))
    assert "label" not in {row["finding"] for row in tables.parse(command.SUSPECTS.read_bytes())}
    page = Path("elsewhere/page.html").read_text()
    assert "looks like dog" not in page
    assert f'["{wrong.path}","{wrong.sha256}","keep","","seen, a cat"]' in page
    assert "1 image that was found is not shown again" in capsys.readouterr().out


def test_labelling_order(looked: Features, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So many rows, each with what the picture is likely of; no page is written."""
    pictures = [image("", number, "")._replace(path=f"{number}.png") for number in range(30)]
    unlabelled = features_of(pictures, [number % 2 for number in range(30)])
    monkeypatch.setattr(features, "read_unlabelled", lambda folder: unlabelled)
    command.main(parse("--unlabelled", "new", "--first", "5"))
    rows = tables.parse(options.LABELLING.read_bytes())
    assert len({row["path"] for row in rows}) == 5
    for row in rows:
        number = int(row["path"].removesuffix(".png"))
        assert (row["sha256"], row["likely"]) == (pictures[number].sha256, _CLASSES[number % 2])
        assert 0.5 < float(row["p_likely"]) < 1
    assert "the 5 most useful of 30 pictures" in capsys.readouterr().out
    assert not options.PAGE.exists()

    # Of the other class, test images alone.
    images = [*looked.images[:30:2], *looked.images[-10:]]
    monkeypatch.setattr(features, "read", lambda: features_of(images, [0] * 25))
    with pytest.raises(UserError, match="of two classes or more, got 1"):
        command.main(parse("--unlabelled", "new"))


def test_refusals(looked: Features, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="got a folder"):
        command.main(parse("--output", "prepared"))
    with pytest.raises(SystemExit):
        parse("--first", "0")
    assert "invalid count value: '0'" in capsys.readouterr().err
    Path("corrections.csv").write_text("path\n")
    with pytest.raises(UserError, match=r"corrections\.csv: "):
        command.main(parse())


def test_without_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="make look"):
        command.main(parse())


def test_answers_of_the_own_model(
    looked: Features, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are asked for where features are the own model's; that there are none is said."""
    looked.about["own_model"] = True
    val = [one for one in looked.images if one.split == "val"]
    answers = {one.sha256[:20]: Prediction(one.label, "cat") for one in val}
    with monkeypatch.context() as patched:
        patched.setattr(command, "predictions", lambda revision: answers)
        command.main(parse())
    page = options.PAGE.read_text()
    assert "the project&#x27;s model, on val images" in page
    assert re.search(r"dog<br><span class=.soft.>10 images</span></th><td><b>0 %", page)
    capsys.readouterr()

    command.main(parse())
    printed = capsys.readouterr().out
    assert re.search("^val answers       .*dvc.lock: not in the working tree", printed, re.M)
    assert re.search("^more images       Not known: the features are of a model that has learned", printed, re.M)
