"""The images that a report shows one by one: which of them, and what it says of each."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from review.album import Album
from review.comparison import TurnedImage
from review.corrected import Corrected
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


def changed(
    images: Iterable[ImageChange], by_hand: Mapping[str, Corrected], base: Revision, head: Revision, album: Album
) -> list[Gallery]:
    """Images that were relabelled, added, removed or moved to another split; one may be two of these. `by_hand`: the
    changed decisions of people by the image's SHA-256, each of which is shown beside its image, with its reason."""
    relabelled: list[ImageChange] = []
    added: list[ImageChange] = []
    removed: list[ImageChange] = []
    moved: list[ImageChange] = []
    left_out: list[ImageChange] = []
    for image in images:
        if image.old is None:
            added.append(image)
        elif image.new is None:
            removed.append(image)
        else:
            if image.old.label != image.new.label:
                relabelled.append(image)
            if image.old.split != image.new.split:
                is_by_hand = not image.new.split and image.sha256 in by_hand
                (left_out if is_by_hand else moved).append(image)
    found = []
    for name, header, kind, cells in (
        ("Relabelled", ["image", "class was", "class is", "split"], relabelled, _relabelled),
        ("Added", ["image", "class", "split"], added, _one_side),
        ("Removed", ["image", "class was", "split was"], removed, _one_side),
        ("Left out", ["image", "class", "split was"], left_out, _left_out),
        ("Moved to another split", ["image", "class", "split was", "split is"], moved, _moved),
    ):
        reasons = {image.sha256: by_hand[image.sha256].reason for image in kind if image.sha256 in by_hand}
        shown = [
            Shown(
                [*cells(image), *([reasons.get(image.sha256, "—")] if reasons else [])],
                _picture(image, base, head, album),
            )
            for image in _some_of_each_split(kind)
        ]
        if kind:
            found.append(Gallery(name, [*header, *(["by hand"] if reasons else [])], shown, len(kind)))
    return found


def _relabelled(image: ImageChange) -> list[str]:
    was, now = _sides(image)
    return [now.path, was.label, now.label, _split(now)]


def _left_out(image: ImageChange) -> list[str]:
    was, now = _sides(image)
    return [now.path, now.label, _split(was)]


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
