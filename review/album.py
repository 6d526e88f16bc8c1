"""The pictures on one page, of images of several revisions and splits."""

from functools import partial
from typing import TYPE_CHECKING

from review.document import Draw
from review.revision import Missing, Revision

if TYPE_CHECKING:
    from review.thumbnails import Thumbnails

# Pixels; about what a page gives each of many.
_SIDE = 128


class Album:
    """Arrays that are opened when the first picture out of them is drawn, and once; that they are not there is found
    once, too."""

    def __init__(self) -> None:
        self._opened: dict[tuple[Revision, str], Thumbnails | Missing] = {}

    def picture(self, revision: Revision, split: str, sha256: str) -> Draw:
        """How to draw an image by the SHA-256 of its pixels, or 16 digits of it."""
        return partial(self._draw, revision, split, sha256)

    def _draw(self, revision: Revision, split: str, sha256: str, alt: str) -> str:
        thumbnails = self._open(revision, split)
        place = thumbnails.place(sha256)
        if place is None:
            raise Missing(f"prepared/manifest.csv: {sha256[:16]}… is not in {split}, in {revision}.")
        return thumbnails.img(place, alt, _SIDE)

    def _open(self, revision: Revision, split: str) -> "Thumbnails":
        if (revision, split) not in self._opened:
            # NumPy and Pillow, which only a page needs.
            from review.thumbnails import Thumbnails

            try:
                self._opened[revision, split] = Thumbnails(revision, split)
            except Missing as missing:
                self._opened[revision, split] = missing
        found = self._opened[revision, split]
        if isinstance(found, Missing):
            raise found
        return found
