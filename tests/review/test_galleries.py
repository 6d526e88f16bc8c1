"""Of many images that changed, a report shows some of each kind and split, says how many there are, and draws them out
of the arrays of the side that has them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from review import galleries
from review.album import Album
from review.browser import page
from review.comparison import TurnedImage
from review.data_changes import Image, ImageChange
from review.document import Document, Gallery, Section, Strong
from review.revision import WORKSPACE, Malformed, Missing, Revision
from review.thumbnails import Thumbnails
from stages.common import shards, tables

COLUMNS = ("path", "class", "split", "sha256", "status")


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Revision:
    """An empty working tree, the current folder."""
    monkeypatch.chdir(tmp_path)
    return Revision(WORKSPACE, None)


def digest(number: int) -> str:
    return f"{number:016x}{0:048x}"


def prepare(folder: Path, count: int, side: int = 8, split: str = "val") -> None:
    """What prepare writes for so many images of a split."""
    (folder / "prepared").mkdir()
    rows = [(f"cat/{number}.png", "cat", split, digest(number), "kept") for number in range(count)]
    tables.write(folder / "prepared/manifest.csv", COLUMNS, rows)
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    np.save(folder / f"prepared/{split}-images.npy", pixels)


def image(label: str, split: str, path: str = "a.png") -> Image:
    return Image(label, split, frozenset([path]))


def changed(head: Revision, *images: ImageChange) -> list[Gallery]:
    return galleries.changed(images, {}, Revision("base", "0" * 40, ask_remote=False), head, Album())


def test_each_kind_of_change_is_shown(head: Revision) -> None:
    found = changed(
        head,
        ImageChange(digest(0), None, image("cat", "test", "new.png")),
        ImageChange(digest(1), image("dog", "val", "old.png"), None),
        ImageChange(digest(2), image("cat", "train"), image("dog", "train")),
        ImageChange(digest(3), image("cat", "train"), image("dog", "")),
    )
    assert {gallery.name: [one.cells for one in gallery.images] for gallery in found} == {
        "Relabelled": [["a.png", "cat", "dog", "train"], ["a.png", "cat", "dog", "left out"]],
        "Added": [["new.png", "cat", "test"]],
        "Removed": [["old.png", "dog", "val"]],
        "Moved to another split": [["a.png", "dog", "train", "left out"]],
    }
    assert all(one.draw for gallery in found for one in gallery.images)


def test_ten_thousand_images_are_a_page_of_some(tmp_path: Path, head: Revision) -> None:
    """Those of the test split first, and some of each; each total is said."""
    prepare(tmp_path, 10_000)
    images = [TurnedImage(digest(number), f"cat/{number}.png", "cat", "cat", "dog") for number in range(10_000)]
    splits = ("train", "val", "test", "")
    added = [ImageChange(digest(number), None, image("cat", splits[number % 4])) for number in range(10_000)]
    found = [*galleries.turned(images, head, Album()), *changed(head, *added)]
    assert [gallery.title for gallery in found] == [
        "From right to wrong: 12 of 10,000 images",
        "Added: 24 of 10,000 images",
    ]
    assert [one.cells[2] for one in found[1].images] == [
        name for name in ("test", "val", "train", "left out") for _ in "123456"
    ]
    text = page(Document("a", [Strong("b")], [Section("c", [*found])]))
    assert text.count("<img ") == 12 + 6
    assert 'alt="cat/0.png: class cat, base said cat, head says dog"' in text
    assert "Without a picture: dvc.lock: not in the working tree." in text
    assert "Without a picture: an image that is in no split is not prepared." in text
    assert len(text) < 100_000


def test_pictures_of_an_unusual_size_leave_the_page_small(tmp_path: Path, head: Revision) -> None:
    """All that a page can show, of noise, which no format makes smaller."""
    prepare(tmp_path, 100, side=64)
    thumbnails = Thumbnails(head, "val")
    most = 2 * galleries._TURNED + 4 * 3 * galleries._OF_EACH_SPLIT
    assert most * max(len(thumbnails.img(place, "", 128)) for place in range(10)) < 1_700_000


def _write_archive(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, np.zeros(3))


BAD: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("path,class\n"),
    "empty": lambda path: path.write_bytes(b""),
    "archive": lambda path: _write_archive(path),
    "objects": lambda path: np.save(path, np.array([{}]), allow_pickle=True),
    "labels": lambda path: np.save(path, np.zeros(5, np.int64)),
    "oblong": lambda path: np.save(path, np.zeros((5, 8, 9, 3), np.uint8)),
    "no pixels": lambda path: np.save(path, np.zeros((5, 0, 0, 3), np.uint8)),
    "fewer": lambda path: np.save(path, np.zeros((4, 8, 8, 3), np.uint8)),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_array_is_said(tmp_path: Path, head: Revision, name: str) -> None:
    prepare(tmp_path, 5)
    BAD[name](tmp_path / "prepared/val-images.npy")
    with pytest.raises(Malformed, match=r"prepared/val-images\.npy: .*`dvc repro prepare` makes"):
        Thumbnails(head, "val")
    (gallery,) = galleries.turned([TurnedImage(digest(0), "cat/0.png", "cat", "cat", "dog")], head, Album())
    text = page(Document("a", [Strong("b")], [Section("c", [gallery])]))
    assert "Without a picture: prepared/val-images.npy: " in text
    assert ">cat/<wbr>0.png</th>" in text


def test_an_image_that_is_not_in_the_arrays_is_said(tmp_path: Path, head: Revision) -> None:
    prepare(tmp_path, 5)
    with pytest.raises(Missing, match=r"0{14}63… is not in val, in the working tree"):
        Album().picture(head, "val", f"{0x63:016x}")("alt")


def test_pictures_in_shards(tmp_path: Path, head: Revision) -> None:
    """Drawn as those of an array are, by the SHA-256 of their pixels; damaged ones are said to be, and so is a shard
    that is not there."""
    prepare(tmp_path, 6)
    pixels = np.load(tmp_path / "prepared/val-images.npy")
    drawn = [draw(head, number) for number in range(6)]
    lay_shards(tmp_path / "prepared", pixels)
    assert [draw(head, number) for number in range(6)] == drawn
    shard = tmp_path / "prepared" / shards.name_of("val", 1)
    content = shard.read_bytes()
    shard.write_bytes(content[:-30] + bytes(30))
    with pytest.raises(Malformed, match=r"prepared/shards/val-\d+\.bin: image 5: "):
        draw(head, 5)
    shard.write_bytes(content[:-30])
    with pytest.raises(Malformed, match=r"val-\d+\.bin: .* bytes in .*; expected"):
        draw(head, 0)
    shard.unlink()
    with pytest.raises(Malformed, match=r"val-images\.npy: of 2 shards in .*, which has 1"):
        draw(head, 0)


def draw(head: Revision, number: int) -> str:
    return Album().picture(head, "val", digest(number))("an image")


def lay_shards(folder: Path, pixels: np.ndarray) -> None:
    """In place of the array, two shards without loss; the images are in the order of their SHA-256 already."""
    (folder / shards.FOLDER).mkdir()
    places = np.zeros(len(pixels), shards.PLACE)
    for number, some in enumerate(np.array_split(np.arange(len(pixels)), 2)):
        pictures = [shards.encode(pixels[place], shards.LOSSLESS) for place in some]
        with (folder / shards.name_of("val", number)).open("wb") as stream:
            offsets = shards.write(stream, pictures)
        places["shard"][some], places["offset"][some] = number, offsets
        places["size"][some] = [len(picture) for picture in pictures]
    np.save(folder / "val-images.npy", places)
