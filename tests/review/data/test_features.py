"""The border of `python -m review data`: what `python -m stages.look` wrote, whole and of these images."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from review.data.features import Image, read, read_unlabelled
from stages.common.errors import UserError

COLUMNS = (
    "split,path,class,sha256,group,width,height,brightness,contrast,sharpness,plain,taken,camera"
)  # fmt: skip
FIRST = f"train,cat/1.png,cat,{'a' * 64},,640,480,100.5,20.0,300.25,0.1,2024-05-01,Canon EOS"
SECOND = f"val,\"dog, 'é'.png\",dog,{'b' * 64},g1,8,8,0,0,0,1,,"


def write(folder: Path, prefix: str, rows: list[str], vectors: np.ndarray) -> dict[str, str]:
    images, features = folder / f"{prefix}images.csv", folder / f"{prefix}features.npy"
    images.write_text("\n".join([COLUMNS, *rows]) + "\n")
    np.save(features, vectors)
    return {
        f"{name}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in (("images", images), ("features", features))
    }


@pytest.fixture
def looked(tmp_path: Path) -> Path:
    (tmp_path / "manifest.csv").write_text("path,class,split,sha256,status\n")
    return tmp_path


def lay(folder: Path, rows: list[str], vectors: np.ndarray, **changes: Any) -> None:
    content = {
        "features_of": "weights w-0, resnet9",
        "own_model": False,
        "manifest_sha256": hashlib.sha256((folder / "manifest.csv").read_bytes()).hexdigest(),
        **write(folder, "", rows, vectors),
    }
    (folder / "about.json").write_text(json.dumps(content | changes))


def vectors(rows: int = 2, dtype: type = np.float32) -> np.ndarray:
    return np.arange(rows * 3).reshape(rows, 3).astype(dtype)


def test_what_was_written_is_read(looked: Path) -> None:
    lay(looked, [FIRST, SECOND], vectors())
    found = read(looked, looked / "manifest.csv")
    assert found.images == [
        Image("train", "cat/1.png", "cat", "a" * 64, "", 640, 480, 100.5, 20.0, 300.25, 0.1, "2024-05-01", "Canon EOS"),
        Image("val", "dog, 'é'.png", "dog", "b" * 64, "g1", 8, 8, 0.0, 0.0, 0.0, 1.0, "", ""),
    ]
    assert np.array_equal(found.vectors, vectors())
    assert (found.features_of, found.own_model) == ("weights w-0, resnet9", False)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("train,", "training,", "line 2: split: got 'training'"),
        (",cat,", ",,", "line 2: class: got ''"),
        ("cat/1.png", "cat/<b>.png", "line 2: path: it has <"),
        ("a" * 64, "A" * 64, "line 2: sha256: got"),
        ("640", "0", "line 2: numbers that no picture has"),
        ("640", "wide", "line 2: invalid literal for int"),
        ("100.5", "nan", "line 2: numbers that no picture has"),
        ("300.25", "inf", "line 2: numbers that no picture has"),
        ("0.1", "1.5", "line 2: numbers that no picture has"),
        ("2024-05-01", "1 May", "line 2: taken: expected YYYY-MM-DD, got '1 May'"),
        ("Canon EOS", "\x1b[31m", r"line 2: camera: got '\\x1b\[31m'"),
        ("Canon EOS", "x" * 101, "line 2: camera: got 'x"),
        ("Canon EOS", "Canon,EOS", "line 2 has other than 13 values"),
    ],
)
def test_rows_that_look_does_not_write(looked: Path, old: str, new: str, expected: str) -> None:
    lay(looked, [FIRST.replace(old, new), SECOND], vectors())
    with pytest.raises(UserError, match=rf"images\.csv: not what `make look` wrote: {expected}.*`make look` makes it"):
        read(looked, looked / "manifest.csv")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (vectors(3), r"expected float32 features of the 2 images of images\.csv, got float32 \(3, 3\)"),
        (vectors(dtype=np.float64), r"got float64 \(2, 3\)"),
        (vectors().reshape(2, 3, 1), r"got float32 \(2, 3, 1\)"),
        (vectors()[:, :0], r"got float32 \(2, 0\)"),
        (np.full((2, 3), np.inf, np.float32), "numbers that are not finite"),
        (np.array([{}, {}]), "not an array"),
    ],
)
def test_arrays_that_look_does_not_write(looked: Path, array: np.ndarray, expected: str) -> None:
    lay(looked, [FIRST, SECOND], array)
    with pytest.raises(UserError, match=rf"features\.npy: .*{expected}.*`make look` makes it"):
        read(looked, looked / "manifest.csv")


def test_files_that_do_not_belong_together(looked: Path) -> None:
    manifest = looked / "manifest.csv"
    with pytest.raises(UserError, match=r"about\.json: no such file\. `make look` makes it"):
        read(looked, manifest)
    lay(looked, [FIRST, SECOND], vectors())
    np.save(looked / "features.npy", vectors() + 1)
    with pytest.raises(UserError, match=r"features\.npy: not the file that about\.json names.*`make look` again"):
        read(looked, manifest)
    lay(looked, [FIRST, SECOND], vectors())
    (looked / "images.csv").unlink()
    with pytest.raises(UserError, match=r"images\.csv: no such file"):
        read(looked, manifest)
    lay(looked, [FIRST, SECOND], vectors())
    manifest.write_text("path,class,split,sha256,status\nx,y,train,z,kept\n")
    with pytest.raises(UserError, match=r"about\.json: of other images than .*manifest\.csv names.*`make look` again"):
        read(looked, manifest)
    manifest.unlink()
    with pytest.raises(UserError, match=r"manifest\.csv: no such file\. `make repro`"):
        read(looked, manifest)


@pytest.mark.parametrize(("key", "value"), [("own_model", "no"), ("features_of", None), ("manifest_sha256", 7)])
def test_about_of_another_form(looked: Path, key: str, value: object) -> None:
    lay(looked, [FIRST, SECOND], vectors(), **{key: value})
    with pytest.raises(UserError, match=rf"about\.json: {key}: expected"):
        read(looked, looked / "manifest.csv")


def test_pictures_without_labels(looked: Path) -> None:
    row = f",new 1.png,,{'c' * 64},,10,10,1,1,1,1,,"
    part = write(looked, "unlabelled-", [row], vectors(1)) | {"folder": str(looked.resolve())}
    lay(looked, [FIRST, SECOND], vectors(), unlabelled=part)
    (image,) = read_unlabelled(looked, looked, looked / "manifest.csv").images
    assert (image.split, image.path, image.label) == ("", "new 1.png", "")
    with pytest.raises(UserError, match="not looked at in the last `make look`"):
        read_unlabelled(looked / "other", looked, looked / "manifest.csv")
    part = write(looked, "unlabelled-", [FIRST], vectors(1)) | {"folder": str(looked.resolve())}
    lay(looked, [FIRST, SECOND], vectors(), unlabelled=part)
    with pytest.raises(UserError, match=r"unlabelled-images\.csv.*split: got 'train'"):
        read_unlabelled(looked, looked, looked / "manifest.csv")
