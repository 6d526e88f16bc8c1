"""Raw layouts are found by looking; what is ambiguous is refused with the reason."""

from pathlib import Path

import pytest

from stages import raw
from stages.errors import UserError


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        raw.scan(folder)
    return str(caught.value)


def test_class_folders(tmp_path: Path) -> None:
    """The first folder is the class, at any depth below; images come sorted by path; clutter is counted."""
    data = raw.scan(touch(tmp_path, "b/2.png", "a/deep/1.jpg", "b/1.png", "b/.DS_Store", "a/Thumbs.db"))
    assert [(image.path, image.label, image.split) for image in data.images] == [
        ("a/deep/1.jpg", "a", None),
        ("b/1.png", "b", None),
        ("b/2.png", "b", None),
    ]
    assert data.classes == ["a", "b"]
    assert data.official_splits == ()
    assert data.ignored == ["a/Thumbs.db", "b/.DS_Store"]


def test_split_folders(tmp_path: Path) -> None:
    data = raw.scan(touch(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"))
    assert data.official_splits == ("train", "test")
    assert [(image.label, image.split) for image in data.images] == [
        ("a", "test"),
        ("b", "test"),
        ("a", "train"),
        ("b", "train"),
    ]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], "no images. Expected"),
        (["only/1.png", "only/2.png"], "one class only (only)"),
        (["a/1.png", "b/1.png", "stray.png"], "1 files outside a class folder"),
        (["train/a/1.png", "train/b/1.png", "train/stray.png"], "train/stray.png"),
        (["train/a/1.png", "cat/1.png"], "not a mixture"),
        (["val/a/1.png", "test/a/1.png"], "without train"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], "test/: no images of class b"),
    ],
)
def test_refused(tmp_path: Path, paths: list[str], expected: str) -> None:
    assert expected in refused(touch(tmp_path, *paths))


def test_missing_folder(tmp_path: Path) -> None:
    assert "no such folder. `make data`" in refused(tmp_path / "data")
