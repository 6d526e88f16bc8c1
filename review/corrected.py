"""What people have decided about single images: in which decisions two revisions differ, by corrections.csv in Git."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from review.data_changes import ImageChange
from review.document import some
from review.revision import Malformed, Revision
from stages.common.corrections import FILE, KEEP, LEAVE_OUT, RELABEL, Correction, CorrectionsError, parse
from stages.common.names import shortened

_TAKEN_BACK, _REASON = "taken back", "reason"
# How many of each kind, in words: of one, and of more.
_WORDS = {
    RELABEL: ("label corrected", "labels corrected"),
    LEAVE_OUT: ("image left out", "images left out"),
    KEEP: ("label confirmed", "labels confirmed"),
    _TAKEN_BACK: ("correction taken back", "corrections taken back"),
    _REASON: ("reason changed", "reasons changed"),
}
_SHOWN = 5
_LONGEST_REASON = 100


class Corrected(NamedTuple):
    """An image about which the two do not say the same; None for the side that says nothing."""

    old: Correction | None
    new: Correction | None

    @property
    def said(self) -> Correction:
        """What is said of it now, or was."""
        said = self.new or self.old
        assert said is not None
        return said

    @property
    def kind(self) -> str:
        """The new decision; or that there is none any more, or only another reason for the same."""
        if self.new is None:
            return _TAKEN_BACK
        return _REASON if self.old and self.old.effect == self.new.effect else self.new.decision

    @property
    def decides(self) -> bool:
        """Whether the image counts for something else than before: to say that a label is right changes nothing."""
        old, new = ("" if one is None or one.decision == KEEP else one.effect for one in (self.old, self.new))
        return old != new

    @property
    def reason(self) -> str:
        """Why, in words that are never empty."""
        return _TAKEN_BACK if self.new is None else self.new.reason or "no reason given"


def corrections_of(revision: Revision) -> dict[str, Correction]:
    """All decisions at a revision, by the SHA-256 of the pixels; none where it has no such file. Raises Malformed."""
    content = revision.read(str(FILE))
    try:
        return {one.sha256: one for one in parse(content)} if content is not None else {}
    except CorrectionsError as error:
        raise Malformed(f"{FILE}: in {revision}, {error}. Mend these lines, or remove them.") from None


def compare_corrections(base: Revision, head: Revision) -> list[Corrected]:
    """The images about which the two do not say the same, sorted by path. Raises Malformed."""
    old, new = corrections_of(base), corrections_of(head)
    pairs = [Corrected(old.get(image), new.get(image)) for image in old.keys() | new.keys()]
    different = [one for one in pairs if one.kind != _REASON or len({side.reason for side in one if side}) > 1]
    return sorted(different, key=lambda one: (one.said.path, one.said.sha256))


def counted(corrected: Iterable[Corrected]) -> str:
    """How many of each kind, in words."""
    counts = Counter(one.kind for one in corrected)
    parts = [f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in _WORDS.items() if counts[kind]]
    return f"{', '.join(parts)} ({FILE})"


def named_test_images(corrected: Iterable[Corrected], images: Iterable[ImageChange]) -> str:
    """The images of the test split, of either side, that count for something else by hand, in a line; empty where there
    are none. `images`: those that differ between the manifests."""
    of_test = {one.sha256: one for one in images if any(side and side.split == "test" for side in (one.old, one.new))}
    return some(list(_named(corrected, of_test)), _SHOWN)


def _named(corrected: Iterable[Corrected], images: dict[str, ImageChange]) -> Iterator[str]:
    for one in corrected:
        image = images.get(one.said.sha256)
        if image is None or not one.decides:
            continue
        was, now = (_counts_for(side.label, side.split) if side else "absent" for side in (image.old, image.new))
        yield f"{shortened(one.said.path)} ({was} → {now}: {shortened(one.reason, _LONGEST_REASON)})"


def _counts_for(label: str, split: str) -> str:
    return label if split else "left out"
