"""make propose: what it sees in data/, what it proposes, and that it never overwrites an edit."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scripts import propose
from scripts.recipes import Images, choose, read_recipes, text_of
from scripts.recipes import propose as fit
from stages.common.errors import UserError
from stages.common.params import load
from stages.model.pretrained import write_pretrained
from stages.params import Params
from stages.prepare.sizes import measure_sizes
from tests.pretrained import ORIGIN
from tests.project import ROOT, edit_params, run, write_images

RECIPES = read_recipes(ROOT / "configs")


@pytest.fixture
def project(workspace: Path) -> Path:
    """`workspace` as a Git repository, with the recipes."""
    shutil.copytree(ROOT / "configs", workspace / "configs")
    shutil.copy(ROOT / "configs/digits.yaml", workspace / "params.yaml")
    run("git init --quiet && git add . && git commit --quiet --message start", workspace)
    return workspace


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["propose", *arguments])
    propose.main()


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        call(monkeypatch, *arguments)
    return str(caught.value)


def test_photos(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes as EXIF turns them; decisions about the data are kept; what is written is complete, and nothing is lost."""
    for recipe in Path("configs").iterdir():  # which are older than a key that the project has
        recipe.write_text(re.sub("^options: .*\n", "", recipe.read_text(), flags=re.M))
    edit_params(project, on_corrupt="quarantine", split_seed=7, group_pattern="'-[0-9]+'", options="{width: 2}")
    run("git commit --quiet --all --message own", project)
    exif = Image.Exif()
    exif[274] = 6
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (project / "data" / label).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 256, (200, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(project / f"data/{label}/photo-{number}.jpg", exif=exif)
    call(monkeypatch)
    printed = capsys.readouterr().out
    assert "data/: 40 files in 2 classes (class folders); 0 ignored" in printed
    assert "size: 200×300 pixels (median; 200×300 to 200×300)" in printed
    assert "channels: 40 in colour, 0 grey" in printed
    assert "proposed: configs/cifar10-cpu.yaml" in printed
    assert (
        "kept from params.yaml: on_corrupt: quarantine, group_pattern: -[0-9]+, split_seed: 7, options: {'width': 2}"
        in printed
    )
    assert "  image_size: 8 → " in printed
    assert load(Params).image_size == 8

    call(monkeypatch, "--write")
    params = load(Params)
    assert (params.model, params.on_corrupt, params.group_pattern) == ("resnet9", "quarantine", "-[0-9]+")
    assert params.options == {"width": 2}
    assert 32 < params.image_size <= 200
    comments = [line for line in Path("params.yaml").read_text().splitlines() if line.startswith("#")]
    assert {*comments} <= {*(ROOT / "configs/digits.yaml").read_text().splitlines()}
    assert len(comments) > len(Params.model_fields)
    capsys.readouterr()
    call(monkeypatch, "--write")
    assert capsys.readouterr().out.endswith("params.yaml has these values already\nparams.yaml is as proposed\n")


def test_photos_where_there_are_weights(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that starts from them, at their size; without any, that they would help is said."""
    write_images(project / "data", {"cat": 20, "dog": 20}, side=100)
    call(monkeypatch)
    assert (
        "hint: photos like these need few images and little time where training starts from" in capsys.readouterr().out
    )
    seen = {"classes": 1000, "image_size": 160, "crop_share": 0.8}
    origin = ORIGIN.model_copy(update={"architecture": "timm/test_vit", "trained_on": "ImageNet", **seen})
    name = write_pretrained({"weight": torch.ones(1)}, origin, "test_vit")
    call(monkeypatch, "--write")
    printed = capsys.readouterr().out
    assert "hint: " not in printed
    assert "proposed: configs/photos-cpu.yaml, fitted to these images" in printed
    assert re.search(r"  weights +test_vit-\w{16} +MIT; trained on ImageNet", printed)
    params = load(Params)
    assert (params.model, params.weights, params.fine_tune) == ("timm/test_vit", name, "head")
    assert (params.image_size, params.stored_size) == (160, 200)


def test_uncommitted_edits_stay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(project / "data", {"cat": 30, "dog": 30}, side=32)
    edit_params(project, lr=0.02)
    before = Path("params.yaml").read_bytes()
    assert "params.yaml: has edits that are not committed; left as it is" in refused(monkeypatch, "--write")
    assert Path("params.yaml").read_bytes() == before


def test_what_prepare_would_refuse_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that shows without decoding, and a proposal nevertheless."""
    write_images(project / "data/train", {"cat": 30, "dog": 30, "newt": 1})
    write_images(project / "data/test", {"cat": 3, "dog": 3})
    (project / "data/train/cat/notes.txt").write_text("not an image")
    call(monkeypatch)
    printed = capsys.readouterr().out
    assert "1 files that are no pictures:\n  train/cat/notes.txt: not PNG, JPEG, " in printed
    assert "1 classes with fewer than 2 images to draw train, val from" in printed
    assert "1 classes without images in the official split test:\n  newt\n" in printed
    assert "proposed: configs/digits.yaml" in printed


def test_nothing_to_look_at(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, an empty one, folders without images, one class, cases of one name, no picture: a message each."""
    expected = "data/: no images yet. Put yours there, or run `make data`"
    assert expected in refused(monkeypatch)
    Path("data").mkdir()
    assert expected in refused(monkeypatch)
    Path("data/cat").mkdir()
    Path("data/dog").mkdir()
    assert "data/: no images. Expected data/<class>/<image>" in refused(monkeypatch)
    write_images(project / "data", {"cat": 3})
    assert "one class only (cat)" in refused(monkeypatch)
    write_images(project / "data", {"Cat": 3})
    assert "classes that differ only in case" in refused(monkeypatch)
    shutil.rmtree("data/Cat")
    shutil.rmtree("data/cat")
    for label in "ab":
        Path(f"data/{label}").mkdir()
        Path(f"data/{label}/notes.txt").write_text("not an image")
    assert "no picture among the files" in refused(monkeypatch)


@pytest.mark.parametrize("width", [1, 8, 28, 64, 65, 500, 4000])
@pytest.mark.parametrize("number", [6, 600, 1_000_000])
def test_every_proposal_is_valid_and_quick(width: int, number: int) -> None:
    """It takes minutes for thousands of images, has steps in each epoch, and enlarges no image of 8 pixels or more."""
    images = Images(number, measure_sizes([(width, 2 * width, number)], 1, "crop"), ())
    recipe = choose(RECIPES, images.side, number)
    assert recipe.suits(images.side, number)
    proposal = fit(recipe, images, load(Params, ROOT / "configs/digits.yaml"))
    assert proposal.params.image_size <= max(8, width)
    assert proposal.params.resize == "pad"
    assert number > 600 or proposal.seconds < 400
    assert proposal.params.batch_size <= max(8, number / 8)
    assert proposal.params.batch_size <= recipe.params.batch_size


def test_the_text_has_the_values(tmp_path: Path) -> None:
    """Texts that YAML would read as something else are quoted."""
    params = RECIPES[0].params.model_copy(update={"group_pattern": "no", "lr": 1e-5, "launcher": ["torchrun", "a: b"]})
    (tmp_path / "params.yaml").write_text(text_of(RECIPES[0], params))
    assert load(Params, tmp_path / "params.yaml") == params
