"""The images that a report shows one by one: which of them, and what it says of each."""

from collections.abc import Iterable, Sequence
from itertools import islice

from review.album import Album
from review.comparison import TurnedImage
from review.data_changes import Image, ImageChange
from review.document import Draw, Gallery, Shown
from review.revision import Revision

# Of many, some: with so many pictures of 128 pixels in all its galleries, a page has less than 2 MB.
_TURNED = 12
_OF_EACH_SPLIT = 6
# What changes in the test split weighs most. Last: left out.
_SPLITS = ("test", "val", "train", "")


def turned(images: Sequence[TurnedImage], head: Revision, album: Album) -> list[Gallery]:
    """Val images that the model newly names wrong, and right."""
    kinds = {
        "From right to wrong": [one for one in images if one.old == one.actual],
        "From wrong to right": [one for one in images if one.new == one.actual],
    }
    return [
        Gallery(
            name,
            ["image", "class", "base said", "head says"],
            [Shown(_said(one), album.picture(head, "val", one.image)) for one in kind[:_TURNED]],
            len(kind),
        )
        for name, kind in kinds.items()
        if kind
    ]


def _said(one: TurnedImage) -> list[str]:
    return [one.path or f"{one.image[:16]}…", one.actual, one.old, one.new]


def changed(images: Iterable[ImageChange], base: Revision, head: Revision, album: Album) -> list[Gallery]:
    """Images that were relabelled, added, removed or moved to another split; one may be two of these."""
    relabelled: list[tuple[ImageChange, list[str]]] = []
    added: list[tuple[ImageChange, list[str]]] = []
    removed: list[tuple[ImageChange, list[str]]] = []
    moved: list[tuple[ImageChange, list[str]]] = []
    for image in images:
        old, new = image.old, image.new
        if old and new:
            if old.label != new.label:
                relabelled.append((image, [new.path, old.label, new.label, _split(new)]))
            if old.split != new.split:
                moved.append((image, [new.path, new.label, _split(old), _split(new)]))
        elif new:
            added.append((image, [new.path, new.label, _split(new)]))
        elif old:
            removed.append((image, [old.path, old.label, _split(old)]))
    return [
        Gallery(
            name,
            header,
            [Shown(cells, _picture(image, base, head, album)) for image, cells in _some_of_each_split(kind)],
            len(kind),
        )
        for name, header, kind in (
            ("Relabelled", ["image", "class was", "class is", "split"], relabelled),
            ("Added", ["image", "class", "split"], added),
            ("Removed", ["image", "class was", "split was"], removed),
            ("Moved to another split", ["image", "class", "split was", "split is"], moved),
        )
        if kind
    ]


def _split(image: Image) -> str:
    return image.split or "left out"


def _some_of_each_split(images: Sequence[tuple[ImageChange, list[str]]]) -> Iterable[tuple[ImageChange, list[str]]]:
    for split in _SPLITS:
        yield from islice((one for one in images if _side(one[0]).split == split), _OF_EACH_SPLIT)


def _side(image: ImageChange) -> Image:
    """The side that has the image in a split: the new one, if both."""
    sides = [side for side in (image.new, image.old) if side]
    return next((side for side in sides if side.split), sides[0])


def _picture(image: ImageChange, base: Revision, head: Revision, album: Album) -> Draw | None:
    side = _side(image)
    return album.picture(head if side is image.new else base, side.split, image.sha256) if side.split else None
