"""prepare: pixels, splits and checks."""

import csv
import hashlib
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common.errors import UserError
from stages.prepare import __main__ as prepare
from stages.prepare.table import open_table
from tests.project import edit_params, write_images


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "prepared" / "manifest.csv").open(newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def refused() -> str:
    with pytest.raises(UserError) as caught:
        prepare.main()
    return str(caught.value)


def test_arrays_are_what_the_manifest_says(image_workspace: Path) -> None:
    """Each split's arrays hold the pixels and labels of the manifest's rows of that split, in their order."""
    prepare.main()
    info = json.loads(Path("prepared/dataset.json").read_text())
    assert (info["classes"], info["channels"], info["image_size"]) == (["cat", "dog", "owl"], 1, 8)
    for split in ("train", "val", "test"):
        images = np.load(f"prepared/{split}-images.npy")
        labels = np.load(f"prepared/{split}-labels.npy")
        rows = [row for row in manifest(image_workspace).values() if row["split"] == split]
        assert len(rows) == len(images) == len(labels) == sum(info["counts"][split].values())
        for row, image, label in zip(rows, images, labels, strict=True):
            assert np.array_equal(image[..., 0], np.asarray(Image.open(Path("data", row["path"]))))
            assert info["classes"][label] == row["class"]
        for part in ("images", "labels"):
            name = f"{split}-{part}.npy"
            assert info["sha256"][name] == hashlib.sha256(Path("prepared", name).read_bytes()).hexdigest()


def test_normalisation_is_of_the_train_split_alone(image_workspace: Path) -> None:
    prepare.main()
    info = json.loads(Path("prepared/dataset.json").read_text())
    train = np.load("prepared/train-images.npy") / 255
    assert info["mean"] == pytest.approx([train.mean()], abs=1e-7)
    assert info["std"] == pytest.approx([train.std()], abs=1e-7)


def test_split_survives_renaming_and_additions(image_workspace: Path) -> None:
    """An image keeps its split when it is renamed and when others are added or removed."""
    prepare.main()
    before = {row["sha256"]: row["split"] for row in manifest(image_workspace).values()}
    for path in sorted(Path("data/cat").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    Path("data/dog/0000.png").unlink()
    write_images(Path("data"), {"fox": 60}, seed=1)
    prepare.main()
    after = {row["sha256"]: row["split"] for row in manifest(image_workspace).values()}
    assert len(before.keys() & after.keys()) == 179
    assert all(after[sha256] == before[sha256] for sha256 in before.keys() & after.keys())


def test_split_seed_chooses_another_split(image_workspace: Path) -> None:
    prepare.main()
    before = {path: row["split"] for path, row in manifest(image_workspace).items()}
    edit_params(image_workspace, split_seed=1)
    prepare.main()
    assert before != {path: row["split"] for path, row in manifest(image_workspace).items()}


@pytest.mark.slow
def test_fractions_are_reached(workspace: Path) -> None:
    write_images(workspace / "data", {"a": 1000, "b": 1000}, side=4)
    edit_params(workspace, image_size=4, val_fraction=0.1, test_fraction=0.3)
    prepare.main()
    counts = json.loads(Path("metrics/prepare.json").read_text())
    # Five standard deviations of a binomial count.
    assert counts["val_images"] == pytest.approx(200, abs=5 * (2000 * 0.1 * 0.9) ** 0.5)
    assert counts["test_images"] == pytest.approx(600, abs=5 * (2000 * 0.3 * 0.7) ** 0.5)


def test_official_test_split_is_never_mixed_in(workspace: Path) -> None:
    """Images under test/ are the test split, all of them and no others; val is carved from train."""
    write_images(workspace / "data/train", {"cat": 60, "dog": 60}, seed=3)
    write_images(workspace / "data/test", {"cat": 5, "dog": 5}, seed=2)
    prepare.main()
    rows = manifest(workspace)
    assert {path for path, row in rows.items() if row["split"] == "test"} == {
        path for path in rows if path.startswith("test/")
    }
    assert {row["split"] for path, row in rows.items() if path.startswith("train/")} == {"train", "val"}


def test_train_images_that_test_holds_are_left_out(workspace: Path) -> None:
    """The same picture in the official train and test splits counts for test alone."""
    write_images(workspace / "data/train", {"cat": 60, "dog": 60}, seed=3)
    write_images(workspace / "data/test", {"cat": 5, "dog": 5}, seed=2)
    Image.open("data/test/cat/0003.png").save("data/train/cat/leak.bmp")
    prepare.main()
    assert manifest(workspace)["train/cat/leak.bmp"]["status"] == "leaked"
    assert manifest(workspace)["test/cat/0003.png"]["status"] == "kept"
    assert json.loads(Path("metrics/prepare.json").read_text())["leaked"] == 1


def test_duplicates_are_kept_once(image_workspace: Path) -> None:
    """The same pixels under another name and format stay in one split, and one of the files is left out."""
    Image.open("data/cat/0007.png").save("data/cat/copy.bmp")
    prepare.main()
    rows = manifest(image_workspace)
    assert rows["cat/copy.bmp"]["sha256"] == rows["cat/0007.png"]["sha256"]
    assert (rows["cat/0007.png"]["status"], rows["cat/copy.bmp"]["status"]) == ("kept", "duplicate")


def test_the_same_picture_under_two_classes(image_workspace: Path) -> None:
    Image.open("data/cat/0007.png").save("data/dog/copy.png")
    text = refused()
    assert "1 pictures are in more than one class" in text
    assert "cat/0007.png = dog/copy.png" in text


def test_all_files_that_are_not_images_are_named(image_workspace: Path) -> None:
    """A text, an empty file and a picture cut short are all named, and the earlier prepared/ stays as it was."""
    prepare.main()
    before = Path("prepared/manifest.csv").read_bytes()
    Path("data/cat/notes.txt").write_text("not an image")
    Path("data/dog/empty.png").write_bytes(b"")
    whole = Path("data/owl/0000.png").read_bytes()
    Path("data/owl/short.png").write_bytes(whole[: len(whole) // 2])
    text = refused()
    assert "3 files are not whole images" in text
    assert all(f"  {name}: " in text for name in ("cat/notes.txt", "dog/empty.png", "owl/short.png"))
    assert Path("prepared/manifest.csv").read_bytes() == before
    assert not Path(".prepared.tmp").exists()


def test_quarantine_leaves_out_and_says_so(image_workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be errors is left out, counted, and listed in the manifest with the reason; the rest is kept."""
    Path("data/cat/notes.txt").write_text("not an image")
    Image.open("data/cat/0007.png").save("data/dog/copy.png")
    edit_params(image_workspace, on_corrupt="quarantine", on_conflict="quarantine")
    prepare.main()
    rows = manifest(image_workspace)
    assert {path: row["status"] for path, row in rows.items() if row["status"] != "kept"} == {
        "cat/0007.png": "conflict",
        "cat/notes.txt": "corrupt",
        "dog/copy.png": "conflict",
    }
    assert rows["cat/notes.txt"]["note"] == "text; get the picture again"
    assert {rows[path]["split"] for path in ("cat/0007.png", "cat/notes.txt", "dog/copy.png")} == {""}
    figures = json.loads(Path("metrics/prepare.json").read_text())
    assert (figures["files"], figures["corrupt"], figures["conflict"]) == (182, 1, 2)
    printed = capsys.readouterr().out
    assert "left out: 1 not whole images" in printed
    assert "left out: 2 the same pixels under several classes" in printed
    assert printed.endswith(Path("prepared/summary.txt").read_text())


def test_all_problems_come_in_one_report(image_workspace: Path) -> None:
    Path("data/cat/notes.txt").write_text("not an image")
    Image.open("data/cat/0007.png").save("data/dog/copy.png")
    write_images(image_workspace / "data", {"newt": 1}, seed=9)
    text = refused()
    assert "1 files are not whole images" in text
    assert "1 pictures are in more than one class" in text
    assert "1 classes too small to split" in text


def test_changed_pictures_are_reported(image_workspace: Path) -> None:
    """A picture whose pixels could not be kept as they were is counted in the summary and named in the manifest."""
    Image.fromarray(np.full((8, 8), 0xABCD, np.uint16)).save("data/cat/deep.png")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 64).save("data/cat/twelve.png")
    prepare.main()
    summary = Path("prepared/summary.txt").read_text()
    assert "  changed: 1 images, 16 bits: upper 8\n" in summary
    assert "  warning: 1 images of 16 bits use a small part of their range" in summary
    assert manifest(image_workspace)["cat/deep.png"]["note"] == "16 bits: upper 8"


def test_a_table_that_finds_no_space(image_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own error for a full disk becomes the system's, which ends in a message."""

    def small_table(path: Path) -> sqlite3.Connection:
        table = open_table(path)
        table.execute("pragma max_page_count = 8")
        return table

    monkeypatch.setattr(prepare, "open_table", small_table)
    with pytest.raises(OSError, match="No space left on device: 'prepared'"):
        prepare.main()


def test_odd_names_come_through(image_workspace: Path) -> None:
    """Spaces, quotes, commas, other scripts, 255 bytes, upper case; a class like a missing value."""
    write_images(image_workspace / "data", {"NA": 60, "猫 'x', \"y\"": 60}, seed=4)
    names = ["a b.PNG", "c,d.png", 'e"f.png', "g>&h.png", "ñ.PnG", "x" * 251 + ".png"]
    for number, name in enumerate(names):
        Path(f"data/NA/{number:04}.png").rename(Path("data/NA", name))
    prepare.main()
    rows = manifest(image_workspace)
    assert {f"NA/{name}" for name in names} <= rows.keys()
    assert {row["class"] for row in rows.values()} == {"cat", "dog", "owl", "NA", "猫 'x', \"y\""}


def test_groups_stay_together(image_workspace: Path) -> None:
    """The last digit but one of the name stands for a patient."""
    edit_params(image_workspace, group_pattern=r"'\w+/00(\d)'")
    prepare.main()
    splits: dict[str, set[str]] = {}
    for row in manifest(image_workspace).values():
        splits.setdefault(row["group"], set()).add(row["split"])
    assert sorted(splits) == ["0", "1", "2", "3", "4", "5"]
    assert all(len(found) == 1 for found in splits.values())


def test_a_class_too_small_to_split(image_workspace: Path) -> None:
    write_images(image_workspace / "data", {"newt": 1, "ox": 1}, seed=9)
    text = refused()
    assert "2 classes too small to split: expected 3 different images or more of each class" in text
    assert "  newt: 1 train, 0 val, 0 test" in text
    assert "  ox: " in text


def test_many_small_classes(workspace: Path) -> None:
    """A class of three images has one in each split, and every class is in each of them."""
    write_images(workspace / "data", {f"{number:02}": 3 + number % 10 for number in range(30)}, side=4)
    edit_params(workspace, image_size=4)
    prepare.main()
    counts = json.loads(Path("prepared/dataset.json").read_text())["counts"]
    assert min(min(of_class.values()) for of_class in counts.values()) == 1
    assert (counts["train"]["00"], counts["val"]["00"], counts["test"]["00"]) == (1, 1, 1)


def test_one_coloured_image_makes_three_channels(image_workspace: Path) -> None:
    write_images(image_workspace / "data", {"cat": 1}, colour=True, seed=5)
    prepare.main()
    assert json.loads(Path("prepared/dataset.json").read_text())["channels"] == 3
    assert np.load("prepared/train-images.npy").shape[-1] == 3


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_resize(workspace: Path, resize: str) -> None:
    """crop keeps the centre, pad adds black borders, squash shows all of it; 8 is the side of the result."""
    for number in range(60):
        for index, label in enumerate(("cat", "dog")):
            picture = Image.new("L", (40, 20), 100 + number + 60 * index)
            picture.paste(255, (0, 0, 8, 20))  # a bright left edge, outside the centre
            (workspace / "data" / label).mkdir(parents=True, exist_ok=True)
            picture.save(workspace / "data" / label / f"{number}.png")
    edit_params(workspace, resize=resize)
    prepare.main()
    image = np.load("prepared/train-images.npy")[0, ..., 0].astype(int)
    assert image.shape == (8, 8)
    bright_edge = image[4, 0] > 240
    black_border = image[0, 4] == 0
    assert (bright_edge, black_border) == {"crop": (False, False), "pad": (True, True), "squash": (True, False)}[resize]


def test_twice_the_same_bytes(image_workspace: Path) -> None:
    prepare.main()
    first = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    for path in sorted(Path("data").rglob("*.png")):
        os.utime(path, (0, 0))
    prepare.main()
    assert first == {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
