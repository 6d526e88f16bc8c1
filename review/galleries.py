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
    relabelled: list[ImageChange] = []
    added: list[ImageChange] = []
    removed: list[ImageChange] = []
    moved: list[ImageChange] = []
    for image in images:
        if image.old is None:
            added.append(image)
        elif image.new is None:
            removed.append(image)
        else:
            if image.old.label != image.new.label:
                relabelled.append(image)
            if image.old.split != image.new.split:
                moved.append(image)
    return [
        Gallery(
            name,
            header,
            [Shown(cells(image), _picture(image, base, head, album)) for image in _some_of_each_split(kind)],
            len(kind),
        )
        for name, header, kind, cells in (
            ("Relabelled", ["image", "class was", "class is", "split"], relabelled, _relabelled),
            ("Added", ["image", "class", "split"], added, _one_side),
            ("Removed", ["image", "class was", "split was"], removed, _one_side),
            ("Moved to another split", ["image", "class", "split was", "split is"], moved, _moved),
        )
        if kind
    ]


def _relabelled(image: ImageChange) -> list[str]:
    was, now = _sides(image)
    return [now.path, was.label, now.label, _split(now)]


def _moved(image: ImageChange) -> list[str]:
    was, now = _sides(image)
    return [now.path, now.label, _split(was), _split(now)]


def _one_side(image: ImageChange) -> list[str]:
    side, _ = _sides(image)
    return [side.path, side.label, _split(side)]


def _sides(image: ImageChange) -> tuple[Image, Image]:
    """Old and new; of an image that one side alone has, that one twice."""
    old, new = image.old or image.new, image.new or image.old
    assert old is not None and new is not None
    return old, new


def _split(image: Image) -> str:
    return image.split or "left out"


def _some_of_each_split(images: Sequence[ImageChange]) -> Iterable[ImageChange]:
    for split in _SPLITS:
        yield from islice((image for image in images if _drawn(image).split == split), _OF_EACH_SPLIT)


def _drawn(image: ImageChange) -> Image:
    """The side that has the image in a split: the new one, if both."""
    old, new = _sides(image)
    return new if new.split else old


def _picture(image: ImageChange, base: Revision, head: Revision, album: Album) -> Draw | None:
    side = _drawn(image)
    return album.picture(head if side is image.new else base, side.split, image.sha256) if side.split else None
