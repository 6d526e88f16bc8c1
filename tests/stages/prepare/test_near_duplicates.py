"""Copies of a picture in another split that are not the same to the pixel are found, and other pictures are not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from stages.common.errors import UserError
from stages.prepare import __main__ as prepare
from stages.prepare import near_duplicates
from stages.prepare.near_duplicates import describe, thumbnail
from stages.prepare.table import open_table
from tests.project import edit_params
from tests.stages.prepare.test_prepare import manifest

COPIES = {
    "saved-again.jpg": lambda picture: picture,
    "half.png": lambda picture: picture.resize((40, 30), Image.Resampling.BICUBIC),
    "double.png": lambda picture: picture.resize((160, 120), Image.Resampling.BICUBIC),
    "brighter.png": lambda picture: ImageEnhance.Brightness(picture).enhance(1.05),
    "cropped.png": lambda picture: picture.crop((1, 1, 79, 59)),
    "mirrored.png": ImageOps.mirror,
}


def scene(number: int) -> Image.Image:
    """A picture of its own, 80×60, with edges and shades."""
    random = np.random.default_rng(number)
    blocks = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    return blocks.resize((80, 60), Image.Resampling.BICUBIC)


@pytest.fixture
def copied(workspace: Path) -> Path:
    """Official splits of two classes, and in train a copy of a test picture of each kind."""
    for number in range(60):
        path = Path("data", "test" if number < 12 else "train", "cat" if number % 2 else "dog", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path)
    for number, (name, change) in enumerate(COPIES.items()):
        change(scene(number)).save(Path("data/train/cat", name), quality=70)
    return workspace


def test_near_copies_are_found(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are reported, each with its picture, and stay; or left out; or an error names every pair."""
    pairs = {f"train/cat/{name}": f"test/{'cat' if i % 2 else 'dog'}/{i}.png" for i, name in enumerate(COPIES)}
    prepare.main()
    rows = manifest(copied)
    assert {path: row["note"] for path, row in rows.items() if row["note"]} == {
        path: f"nearly the same as {other}" for path, other in pairs.items()
    }
    assert {row["status"] for row in rows.values()} == {"kept"}
    assert json.loads(Path("metrics/prepare.json").read_text())["near_duplicates"] == len(COPIES)
    printed = capsys.readouterr().out
    assert f"near copies: {len(COPIES)} of train or val, nearly the same as one of val or test" in printed
    assert "train/cat/mirrored.png" in printed

    edit_params(copied, on_near_duplicate="quarantine")
    prepare.main()
    rows = manifest(copied)
    assert {path for path, row in rows.items() if row["status"] == "near-duplicate"} == set(pairs)
    assert sum(row["status"] == "kept" for row in rows.values()) == 60
    printed = capsys.readouterr().out
    assert f"left out: {len(COPIES)} of train or val, nearly the same as one of val or test" in printed
    assert "left out: none" not in printed

    edit_params(copied, on_near_duplicate="error")
    with pytest.raises(UserError) as caught:
        prepare.main()
    for path, other in pairs.items():
        assert f"  {path} (" in str(caught.value)
        assert f" ~ {other} (test)" in str(caught.value)


@pytest.mark.parametrize("processes", [1, 2])
def test_all_pairs_are_found_in_blocks_by_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """The same as by the cosine of every pair, of a picture and its mirror image."""
    sizes = {"_ROWS": 7, "_COLUMNS": 5, "_MOST_ROWS": 19, "_MOST_COLUMNS": 11, "_ALONE_BELOW_PAIRS": 0}
    for name, size in sizes.items():
        monkeypatch.setattr(near_duplicates, name, size)
    monkeypatch.setattr(near_duplicates, "cores", lambda: processes)
    random = np.random.default_rng(0)
    # Twenty pictures and their copies, which are nearly the same or nearly so; half of them mirrored.
    vectors = np.repeat(random.normal(size=(20, 63)), 10, axis=0) + random.normal(scale=0.2, size=(200, 63))
    odd = np.tile(np.arange(8) % 2 == 1, 8)[1:]
    vectors[::2, odd] *= -1
    vectors = np.rint(127 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    splits = random.choice(["train", "val", "test"], 200)
    table = open_table(tmp_path / "images.sqlite")
    table.executemany(
        "insert into images (id, path, container, split, descriptor, status) values (?, '', 0, ?, ?, 'kept')",
        ((number, splits[number], vectors[number].astype(np.int8).tobytes()) for number in range(200)),
    )
    near_duplicates.find(table, "report")
    found = dict(table.execute("select id, near from images").fetchall())

    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[:, ~odd] @ vectors[:, ~odd].T + np.abs(vectors[:, odd] @ vectors[:, odd].T)
    expected: dict[int, int | None] = dict.fromkeys(range(200))
    for some, precedent in ((("train", "val"), "test"), (("train",), "val")):
        partners = [number for number in range(200) if splits[number] == precedent and expected[number] is None]
        for number in range(200):
            best = partners[np.argmax(cosines[number, partners])]
            if splits[number] in some and expected[number] is None and cosines[number, best] >= near_duplicates.ALIKE:
                expected[number] = best
    assert found == expected
    assert 20 < sum(near is None for near in found.values()) < 180


@pytest.mark.parametrize(
    "rgb",
    [
        np.random.default_rng(0).integers(0, 256, (15, 40, 3), np.uint8),
        np.full((40, 40, 3), 200, np.uint8),
        np.pad(np.full((12, 12, 3), 255, np.uint8), ((8, 20), (4, 24), (0, 0))),
    ],
    ids=["small", "blank", "drawn on an empty ground"],
)
def test_what_has_no_details_is_not_compared(rgb: np.ndarray) -> None:
    assert describe([thumbnail(rgb)]) == [None]


def test_a_very_wide_picture_takes_little_memory() -> None:
    """And looks as its narrow copy does."""
    narrow = np.asarray(scene(0))
    (wide, own) = describe([thumbnail(np.repeat(narrow, 1000, axis=1)), thumbnail(narrow)])
    assert wide is not None
    assert own is not None
    assert np.abs(np.frombuffer(wide, np.int8).astype(int) - np.frombuffer(own, np.int8)).max() <= 1


def test_the_descriptor_of_a_picture_is_the_same_everywhere() -> None:
    """To the bit, on every machine: integers that no order of adding changes."""
    horizontal = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 4, 3, axis=2).repeat(48, axis=0)
    (found,) = describe([thumbnail(horizontal)])
    assert found is not None
    values = np.frombuffer(found, np.int8).tolist()
    assert values[:9] == [-118, 0, -39, 0, -22, 0, -15, 0, 0]
    assert not any(values[9:])
