"""What differs between two manifests: images by the SHA-256 of their pixels, so a renamed file is the same image."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from review.manifest import Manifest, digits


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


class _Contents(NamedTuple):
    """The contents of a manifest, sorted by SHA-256, which stands first; of each, the places of class and split in the
    lists that both manifests share, and its rows: `copies` of them from `start` on in `order`."""

    manifest: Manifest
    digests: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    start: np.ndarray
    copies: np.ndarray
    order: np.ndarray

    def rows(self, place: int) -> np.ndarray:
        """The places of a content's rows in the manifest."""
        return self.order[self.start[place] : self.start[place] + self.copies[place]]

    def path_hashes(self, place: int) -> set[int]:
        return set(self.manifest.path_hashes[self.rows(place)].tolist())


def compare_manifests(old: Manifest, new: Manifest) -> DataChanges:
    """Compare two prepared/manifest.csv. Of several copies of a content, the one that is used says class and split;
    where none is, all their classes."""
    labels, splits = _Names(), _Names()
    before, after = (_contents(manifest, labels, splits) for manifest in (old, new))
    common, others = _common(before.digests, after.digests)
    was, now = before.labels[common], after.labels[others]
    split_was, split_now = before.splits[common], after.splits[others]
    added, removed = np.ones(len(after.digests), np.bool_), np.ones(len(before.digests), np.bool_)
    added[others] = removed[common] = False
    differs = (was != now) | (split_was != split_now)
    same_label = was == now
    return DataChanges(
        added=labels.count(after.labels[added]),
        removed=labels.count(before.labels[removed]),
        relabelled=labels.count_pairs(was[~same_label], now[~same_label]),
        resplit=splits.count_pairs(split_was[split_was != split_now], split_now[split_was != split_now]),
        renamed=_renamed(before, after, common[same_label], others[same_label]),
        unreadable=(old.unreadable, new.unreadable),
        test=_split_changes(before, after, common, others, splits.place("test")),
        images=_image_changes(
            _images(before, np.append(common[differs], np.flatnonzero(removed)), labels, splits),
            _images(after, np.append(others[differs], np.flatnonzero(added)), labels, splits),
            int(differs.sum()),
        ),
    )


class _Names:
    """Texts and their places, which two manifests share."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._texts: list[str] = []

    def place(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self._texts)
            self._texts.append(text)
        return self._places[text]

    def text(self, place: int) -> str:
        return self._texts[place]

    def places(self, texts: Iterable[str]) -> np.ndarray:
        return np.array([self.place(text) for text in texts], np.int64)

    def count(self, places: np.ndarray) -> Counter[str]:
        found, counts = np.unique(places, return_counts=True)
        return Counter(dict(zip(map(self.text, found.tolist()), counts.tolist(), strict=True)))

    def count_pairs(self, old: np.ndarray, new: np.ndarray) -> Counter[tuple[str, str]]:
        pairs, counts = np.unique(old * len(self._texts) + new, return_counts=True)
        texts = [tuple(map(self.text, divmod(pair, len(self._texts)))) for pair in pairs.tolist()]
        return Counter(dict(zip(((one, other) for one, other in texts), counts.tolist(), strict=True)))


def _contents(manifest: Manifest, labels: _Names, splits: _Names) -> _Contents:
    order = np.argsort(manifest.digests, kind="stable")
    digests = manifest.digests[order]
    is_first = np.ones(len(digests), np.bool_)
    is_first[1:] = digests[1:] != digests[:-1]
    start = np.flatnonzero(is_first)
    copies = np.diff(start, append=len(digests))
    # As for the only row of a content; contents with several are put right below.
    of_class = labels.places(manifest.classes)[manifest.labels[order[start]]]
    of_split = splits.places(manifest.split_names)[manifest.splits[order[start]]]
    left_out = splits.place("")
    of_split[~manifest.kept[order[start]]] = left_out
    for place in np.flatnonzero(copies > 1).tolist():
        rows = order[start[place] : start[place] + copies[place]]
        used = rows[manifest.kept[rows]]
        names = {manifest.classes[label] for label in manifest.labels[used if len(used) else rows].tolist()}
        of_class[place] = labels.place(" or ".join(sorted(names)))
        of_split[place] = splits.place(manifest.split_names[manifest.splits[used[0]]]) if len(used) else left_out
    return _Contents(manifest, digests[start], of_class, of_split, start, copies, order)


def _common(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of what two sorted arrays have in common, in each of them."""
    if not len(new):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    places = np.minimum(np.searchsorted(new, old), len(new) - 1)
    found = new[places] == old
    return np.flatnonzero(found), places[found]


def _renamed(before: _Contents, after: _Contents, common: np.ndarray, others: np.ndarray) -> int:
    """How many contents have no path of before any more."""
    single = (before.copies[common] == 1) & (after.copies[others] == 1)
    old, new = (
        side.manifest.path_hashes[side.order[side.start[places[single]]]]
        for side, places in ((before, common), (after, others))
    )
    several = zip(common[~single].tolist(), others[~single].tolist(), strict=True)
    return int((old != new).sum()) + sum(
        before.path_hashes(one).isdisjoint(after.path_hashes(other)) for one, other in several
    )


def _split_changes(
    before: _Contents, after: _Contents, common: np.ndarray, others: np.ndarray, split: int
) -> SplitChanges:
    old, new = before.splits == split, after.splits == split
    both = old[common] & new[others]
    return SplitChanges(
        added=int(new.sum() - both.sum()),
        removed=int(old.sum() - both.sum()),
        relabelled=int((before.labels[common] != after.labels[others])[both].sum()),
    )


def _image_changes(before: list[tuple[str, Image]], after: list[tuple[str, Image]], in_both: int) -> list[ImageChange]:
    """Of images with their SHA-256, of which the first `in_both` are those that both sides have."""
    return sorted(
        [
            *(ImageChange(sha256, old, new) for (sha256, old), (_, new) in zip(before[:in_both], after, strict=False)),
            *(ImageChange(sha256, old, None) for sha256, old in before[in_both:]),
            *(ImageChange(sha256, None, new) for sha256, new in after[in_both:]),
        ],
        key=lambda change: change.sha256,
    )


def _images(side: _Contents, places: np.ndarray, labels: _Names, splits: _Names) -> list[tuple[str, Image]]:
    """The contents at these places, with their SHA-256."""
    wanted = np.zeros(len(side.manifest), np.bool_)
    rows = [side.rows(place) for place in places.tolist()]
    if rows:
        wanted[np.concatenate(rows)] = True
    paths = side.manifest.paths(wanted)
    return [
        (sha256, Image(labels.text(label), splits.text(split), frozenset(paths[row] for row in of_content.tolist())))
        for sha256, label, split, of_content in zip(
            digits(side.digests[places]),
            side.labels[places].tolist(),
            side.splits[places].tolist(),
            rows,
            strict=True,
        )
    ]
