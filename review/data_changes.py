"""What differs between two manifests: images by the SHA-256 of their pixels, so a renamed file is the same image."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Row = Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """What a manifest says of one content: its class, the split it is used in (empty where left out), its paths."""

    label: str
    split: str
    paths: frozenset[str]

    @property
    def path(self) -> str:
        """One of them."""
        return min(self.paths)


class ImageChange(NamedTuple):
    """An image, by the SHA-256 of its pixels, that the two do not have alike; None for the side that has none."""

    sha256: str
    old: Image | None
    new: Image | None


class SplitChanges(NamedTuple):
    """Numbers of images of one split: only in the new one, only in the old one, and in both under another class."""

    added: int
    removed: int
    relabelled: int


@dataclass(frozen=True)
class DataChanges:
    """Numbers of images by kind: added and removed by class; relabelled by (old, new) class; re-split by (old, new)
    split, where none is left out; renamed: the same content and class under other paths. `unreadable`: old, new.
    `test`: what of this becomes of the test split, wherever else such an image is or was. `images`: each of those that
    are counted here but the renamed, by their digests, an order that says nothing of them."""

    added: Counter[str]
    removed: Counter[str]
    relabelled: Counter[tuple[str, str]]
    resplit: Counter[tuple[str, str]]
    renamed: int
    unreadable: tuple[int, int]
    test: SplitChanges
    images: list[ImageChange]

    @property
    def of_content(self) -> bool:
        """Whether anything changed that a model could notice."""
        return bool(self.added or self.removed or self.relabelled or self.resplit)


def compare_manifests(old: Iterable[Row], new: Iterable[Row]) -> DataChanges:
    """Compare the rows of two prepared/manifest.csv."""
    (before, bad_before), (after, bad_after) = images_by_content(old), images_by_content(new)
    common = [(before[content], after[content]) for content in before.keys() & after.keys()]
    images = (ImageChange(content, before.get(content), after.get(content)) for content in before.keys() | after.keys())
    return DataChanges(
        added=Counter(image.label for content, image in after.items() if content not in before),
        removed=Counter(image.label for content, image in before.items() if content not in after),
        relabelled=Counter((one.label, other.label) for one, other in common if one.label != other.label),
        resplit=Counter((one.split, other.split) for one, other in common if one.split != other.split),
        renamed=sum(one.label == other.label and not one.paths & other.paths for one, other in common),
        unreadable=(bad_before, bad_after),
        test=_split_changes(before, after, "test"),
        images=sorted((image for image in images if _differs(image)), key=lambda image: image.sha256),
    )


def _differs(image: ImageChange) -> bool:
    if image.old is None or image.new is None:
        return True
    return (image.old.label, image.old.split) != (image.new.label, image.new.split)


def _split_changes(before: Mapping[str, Image], after: Mapping[str, Image], split: str) -> SplitChanges:
    old, new = (
        {content: image.label for content, image in images.items() if image.split == split}
        for images in (before, after)
    )
    return SplitChanges(
        added=len(new.keys() - old.keys()),
        removed=len(old.keys() - new.keys()),
        relabelled=sum(old[content] != new[content] for content in old.keys() & new.keys()),
    )


def images_by_content(rows: Iterable[Row]) -> tuple[dict[str, Image], int]:
    """Images by SHA-256, and the number of rows without one: what could not be read.

    Of several copies, the one that is used says class and split; where none is, all their classes.
    """
    copies: dict[str, list[Row]] = defaultdict(list)
    unreadable = 0
    for row in rows:
        if row["sha256"]:
            copies[row["sha256"]].append(row)
        else:
            unreadable += 1
    images = {}
    for content, of_content in copies.items():
        used = [row for row in of_content if row["status"] == "kept"]
        labels = {row["class"] for row in used or of_content}
        images[content] = Image(
            " or ".join(sorted(labels)),
            used[0]["split"] if used else "",
            frozenset(row["path"] for row in of_content),
        )
    return images, unreadable
