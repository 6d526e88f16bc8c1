"""`python -m stages.look`: rows and features that belong together, new images alone, and what it refuses."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from review.data import features
from stages.common.errors import UserError
from stages.common.locks import try_lock
from stages.look import __main__ as look
from stages.look import vectors
from stages.model.architectures import build_model
from stages.model.dataset import Split, load_info
from stages.model.pretrained import read_pretrained, write_pretrained
from stages.model.trained import save_trained
from stages.prepare import __main__ as prepare
from tests.pretrained import ORIGIN
from tests.project import ROOT, edit_params, user_environment, write_cifar10, write_images

ABOUT = Path(".dvc/tmp/look/about.json")


@pytest.fixture
def project(workspace: Path) -> Path:
    """20 images of two classes, prepared, and weights of resnet9 that params.yaml names; batches of 4."""
    write_images(workspace / "data", {"cat": 10, "dog": 10})
    torch.manual_seed(7)
    model = build_model("resnet9", num_classes=5, channels=3, image_size=8)
    name = write_pretrained(model.state_dict(), ORIGIN, "resnet9")
    edit_params(workspace, model="resnet9", weights=name, eval_batch_size=4, val_fraction=0.3, test_fraction=0.3)
    prepare.main()
    return workspace


def run_look(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    with monkeypatch.context() as context:
        context.setattr("sys.argv", ["look", *arguments])
        look.main()


def about() -> dict[str, object]:
    content: dict[str, object] = json.loads(ABOUT.read_text())
    return content


def written() -> dict[str, bytes]:
    return {name: ABOUT.with_name(name).read_bytes() for name in ("images.csv", "features.npy")}


def test_rows_are_the_images_of_the_arrays(project: Path) -> None:
    """Features are what resnet9 has before its last layer, of each image of train, val and test, in their order."""
    look.main()
    found = features.read()
    info = load_info()
    pretrained = read_pretrained(found.features_of.split()[1].rstrip(","))
    network = build_model("resnet9", num_classes=5, channels=3, image_size=8)
    network.load_state_dict(pretrained.tensors)
    network[-1] = torch.nn.Identity()  # type: ignore[operator]  # it is a Sequential
    expected = []
    for split in ("train", "val", "test"):
        rows = Split.load(split, info, torch.device("cpu")).images.expand(-1, -1, -1, 3)
        images = (rows / 255 - torch.tensor([0.5])) / torch.tensor([0.2])
        with torch.inference_mode():
            expected.append(network.eval()(images.permute(0, 3, 1, 2)))
    np.testing.assert_allclose(found.vectors, torch.cat(expected).numpy(), rtol=1e-4, atol=1e-5)
    assert not found.own_model
    manifest = [line.split(",") for line in Path("prepared/manifest.csv").read_text().splitlines()[1:]]
    for split in ("train", "val", "test"):
        rows_of_split = [(image.path, image.label, image.sha256) for image in found.images if image.split == split]
        assert rows_of_split == [(row[0], row[1], row[3]) for row in manifest if row[2] == split]
    assert [image.split for image in found.images] == sorted(
        (image.split for image in found.images), key=["train", "val", "test"].index
    )
    assert {(image.width, image.height) for image in found.images} == {(8, 8)}


def test_small_images_are_enlarged(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the side that the weights were trained on, at most four times or to 64 px."""
    tensors = read_pretrained(next(Path("weights").glob("*.json")).stem).tensors
    for trained_on, side in ((20, 20), (224, 64)):
        name = write_pretrained(tensors, ORIGIN.model_copy(update={"image_size": trained_on}), "resnet9")
        edit_params(project, weights=name)
        look.main()
        assert f"; images of 8 px, enlarged to {side}\n" in capsys.readouterr().out
        found = features.read()
        assert found.about["enlarged_to"] == side
        network = build_model("resnet9", num_classes=5, channels=3, image_size=side)
        network.load_state_dict(tensors)
        network[-1] = torch.nn.Identity()  # type: ignore[operator]  # it is a Sequential
        rows = Split.load("train", load_info(), torch.device("cpu")).images.expand(-1, -1, -1, 3)
        images = torch.nn.functional.interpolate(((rows / 255 - 0.5) / 0.2).permute(0, 3, 1, 2), side, mode="bilinear")
        with torch.inference_mode():
            expected = network.eval()(images)
        np.testing.assert_allclose(found.vectors[: len(rows)], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_new_images_alone_are_computed_to_the_same_bytes(project: Path) -> None:
    """20 images at once give the bytes of 13 and 7 more; and what is gone is forgotten."""
    look.main()
    assert about()["computed"] == about()["read"] == 20
    at_once = written()
    shutil.rmtree(".dvc/tmp/look")
    aside = [f"cat/{number:04}.png" for number in range(3)] + [f"dog/{number:04}.png" for number in range(4)]
    for path in aside:
        Path("data", path).rename(path.replace("/", "-"))
    prepare.main()
    look.main()
    assert about()["computed"] == about()["read"] == 13
    for path in aside:
        Path(path.replace("/", "-")).rename(Path("data", path))
    prepare.main()
    look.main()
    assert about()["computed"] == about()["read"] == 7
    assert written() == at_once
    look.main()
    assert about()["computed"] == about()["read"] == 0
    assert written() == at_once
    Path("data/cat/0000.png").rename("gone.png")
    prepare.main()
    look.main()
    Path("gone.png").rename("data/cat/0000.png")
    prepare.main()
    look.main()
    assert about()["computed"] == about()["read"] == 1


@pytest.mark.parametrize(("most", "expected"), [(1, 4), (4, 4), (10, 8), (31, 16), (32, 32), (512, 32)])
def test_batches_are_powers_of_two(most: int, expected: int) -> None:
    assert look.batch_size_for(most) == expected


def test_the_order_of_a_batch_has_no_say(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look.main()
    first = written()
    compute = vectors.Extractor.compute
    monkeypatch.setattr(vectors.Extractor, "compute", lambda self, images, wanted: compute(self, images, wanted[::-1]))
    shutil.rmtree(".dvc/tmp/look")
    look.main()
    assert written() == first


def test_of_the_trained_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no weights, or --model says so; each network's features are kept beside the other's."""
    with pytest.raises(UserError, match=r"no such file\. `dvc repro train`"):
        run_look(monkeypatch, "--model")
    model = build_model("simplenet", num_classes=2, channels=1, image_size=8)
    params = yaml.safe_load(Path("params.yaml").read_text()) | {"model": "simplenet"}
    save_trained(model.state_dict(), load_info(), params, epoch=1, val_accuracy=0.5)
    run_look(monkeypatch, "--model")
    found = features.read()
    assert found.own_model
    assert found.features_of == "models/, simplenet, trained on these labels"
    assert found.vectors.shape == (20, 128)
    look.main()
    assert not features.read().own_model
    assert about()["computed"] == 20
    run_look(monkeypatch, "--model")
    assert about()["computed"] == 0
    shutil.rmtree("weights")
    edit_params(project, weights="''")
    look.main()
    assert features.read().own_model
    write_images(project / "data", {"owl": 10}, seed=1)
    prepare.main()
    with pytest.raises(UserError, match="trained on other data"):
        look.main()


def test_which_weights(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = (path.stem for path in Path("weights").glob("*.json"))
    edit_params(project, weights="''")
    look.main()
    assert f"look: weights {name}, resnet9 (the only ones in weights/)" in capsys.readouterr().out
    other = write_pretrained(read_pretrained(name).tensors, ORIGIN.model_copy(update={"licence": "ISC"}), "resnet9")
    with pytest.raises(UserError, match=rf"2 weights.*`make look WEIGHTS={min(name, other)}`"):
        look.main()
    run_look(monkeypatch, "--weights", other)
    assert features.read().features_of == f"weights {other}, resnet9"
    with pytest.raises(UserError, match="--weights: expected"):
        run_look(monkeypatch, "--weights", "resnet9")
    shutil.rmtree("weights")
    with pytest.raises(UserError, match="neither weights nor a trained model"):
        look.main()


def test_prepared_or_data_that_do_not_belong(project: Path) -> None:
    manifest = Path("prepared/manifest.csv")
    before = manifest.read_text()
    manifest.write_text(before.replace(",train,", ",val,", 1))
    with pytest.raises(UserError, match=r"manifest\.csv: its train rows are not those"):
        look.main()
    manifest.write_text(before)
    Path("data/cat/0003.png").unlink()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("data/dog/0003.png")
    with pytest.raises(UserError, match=r"(?s)`make repro`.*cat/0003\.png: is not there"):
        look.main()
    Path("data/cat/0003.png").write_bytes(Path("data/cat/0004.png").read_bytes())
    with pytest.raises(UserError, match=r"(?s)cat/0003\.png: has other pixels.*dog/0003\.png: has other pixels"):
        look.main()
    images = Path("prepared/test-images.npy")
    images.write_bytes(images.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"test-images\.npy: not the array of prepared/dataset\.json"):
        look.main()
    shutil.rmtree("prepared")
    with pytest.raises(UserError, match="`dvc repro prepare` makes it"):
        look.main()
    assert not ABOUT.exists()


def test_archives_and_published_sets(project: Path) -> None:
    """Pictures are read wherever prepare finds them: in archives that it unpacks, and as bare pixels."""
    look.main()
    pictures = [(image.path, image.brightness) for image in features.read().images]
    subprocess.run(["tar", "--create", "--xz", "--file", "data.tar.xz", "-C", "data", "cat", "dog"], check=True)
    shutil.rmtree("data")
    Path("data").mkdir()
    Path("data.tar.xz").rename("data/all.tar.xz")
    shutil.rmtree(".dvc/tmp/look")
    prepare.main()
    look.main()
    assert [(image.path, image.brightness) for image in features.read().images] == pictures
    shutil.rmtree("data")
    write_cifar10(Path("data/cifar-10-batches-py"), images=10)
    edit_params(project, eval_batch_size=64)
    prepare.main()
    look.main()
    assert {(image.width, image.height, image.camera) for image in features.read().images} == {(32, 32, "")}
    assert not ABOUT.with_name("work").exists()


def test_pictures_without_labels(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is labelled already, there twice or not readable is named and left out; features are the labelled ones'."""
    write_images(project / "new", {"": 5, "more": 2}, side=16, seed=3)
    shutil.copy("data/cat/0002.png", "new/known.png")
    shutil.copy("new/0001.png", "new/twice.png")
    Path("new/notes.txt").write_text("no picture")
    run_look(monkeypatch, "--unlabelled", "new")
    said = capsys.readouterr().out
    assert "look: 7 new pictures in new/" in said
    for name, why in (("known.png", "labelled already"), ("twice.png", "there twice"), ("notes.txt", "not readable")):
        assert f"1 left out, {why}:\n  {name}" in said
    found = features.read_unlabelled(Path("new"))
    assert [image.path for image in found.images] == [
        "0000.png", "0001.png", "0002.png", "0003.png", "0004.png", "more/0000.png", "more/0001.png"
    ]  # fmt: skip
    assert {(image.split, image.label, image.width) for image in found.images} == {("", "", 16)}
    first = ABOUT.with_name("unlabelled-features.npy").read_bytes()
    # One that gets a label has the same features then.
    shutil.copytree("new", "data/owl", ignore=lambda *_: ["known.png", "twice.png", "notes.txt", "more"])
    prepare.main()
    run_look(monkeypatch, "--unlabelled", "new/more")
    again = features.read_unlabelled(Path("new/more"))
    assert np.array_equal(again.vectors, np.frombuffer(first[-2 * 128 * 4 :], np.float32).reshape(2, 128))
    look.main()
    with pytest.raises(UserError, match=r"not looked at.*--unlabelled new/more"):
        features.read_unlabelled(Path("new/more"))
    assert not list(ABOUT.parent.glob("unlabelled-*"))
    with pytest.raises(UserError, match=r"no new picture among 10 files \(10 labelled\)"):
        run_look(monkeypatch, "--unlabelled", "data/cat")
    with pytest.raises(UserError, match="no such folder"):
        run_look(monkeypatch, "--unlabelled", "elsewhere")


def test_two_at_once(project: Path) -> None:
    look.main()
    with ABOUT.with_name("lock").open() as lock:
        assert try_lock(lock)
        with pytest.raises(UserError, match="another `make look` is at it"):
            look.main()


def test_a_damaged_file_of_what_is_kept(project: Path) -> None:
    look.main()
    (file,) = ABOUT.parent.glob("kept/features-*.sqlite")
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"features-\w+\.sqlite: damaged .*\. Remove it, and run again\."):
        look.main()


@pytest.mark.slow
def test_a_killed_process(project: Path) -> None:
    """What was there before stays whole, and what was computed until then is not computed again."""
    look.main()
    before = written() | {"about.json": ABOUT.read_bytes()}
    write_images(project / "data", {"owl": 10}, seed=1)
    prepare.main()
    kill = """
import os, signal
from stages.look import __main__ as look, vectors
def kept_then_killed(self, values, add=vectors.Kept.add):
    add(self, values)
    self.batches = getattr(self, "batches", 0) + 1
    if self._part == "labelled" and self.batches == 2:
        os.kill(os.getpid(), signal.SIGKILL)
vectors.Kept.add = kept_then_killed
look.main()"""
    done = subprocess.run([sys.executable, "-c", kill], env=user_environment(PYTHONPATH=str(ROOT)), timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert written() | {"about.json": ABOUT.read_bytes()} == before
    with pytest.raises(UserError, match="of other images"):
        features.read()
    look.main()
    assert about()["computed"] in range(1, 10)
    assert about()["read"] == 0
    assert len(features.read().images) == 30
    assert not ABOUT.with_name("work").exists()


def test_a_full_disk(project: Path) -> None:
    """On a real file system without space: what `run_main` says in a line, and no half-written file."""
    disk = project / ".dvc"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            look.main()
        assert not ABOUT.exists()
    finally:
        subprocess.run(["umount", disk], check=True)
