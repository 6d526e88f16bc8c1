"""Pictures of a revision's images for its pages: out of the arrays or shards that prepare wrote, where they are on this
machine.

Arrays are large, so no remote is asked for them.
"""

import base64
import io
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from review import store
from review.pictures_in_shards import PicturesInShards
from review.revision import MANIFEST, Malformed, Missing, Revision
from stages.common.escape import html
from stages.common.shards import is_sharded

# Up to this side, pictures are drawn by their pixels, and kept without loss.
_SMALL = 32


class Thumbnails:
    """The images of one split of a revision. Raises Missing where its arrays or its manifest are not on this machine,
    Malformed where they are not what prepare writes."""

    def __init__(self, revision: Revision, split: str) -> None:
        self._revision = revision
        self.kept = revision.manifest.split(split)
        path = f"prepared/{split}-images.npy"
        self._images = _load(revision, split, path)
        if isinstance(self._images, PicturesInShards):
            order = np.argsort(self.kept.digests)
            self.kept = self.kept._replace(digests=self.kept.digests[order], labels=self.kept.labels[order])
        if len(self._images) != len(self.kept.digests):
            raise Malformed(
                f"{path}: {len(self._images):,} images in {revision}, but {MANIFEST} has {len(self.kept.digests):,}. "
                "`dvc repro prepare` makes both."
            )

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The beginnings of the digests in rising order, and the places of their images."""
        order = np.argsort(self.kept.beginnings, kind="stable")
        return self.kept.beginnings[order], order

    def place(self, sha256: str) -> int | None:
        """Where an image stands, by 16 digits or more of the SHA-256 of its pixels; None where it is not there."""
        beginnings, order = self._sorted
        try:
            beginning = np.uint64(int(sha256[:16], 16))
        except ValueError:
            return None
        found = int(np.searchsorted(beginnings, beginning))
        return int(order[found]) if found < len(order) and beginnings[found] == beginning else None

    @property
    def side(self) -> int:
        """Pixels."""
        return int(self._images.shape[1])

    def img(self, place: int, alt: str, side: int = 224) -> str:
        """The image as an element of a page, of `side` pixels at most. `alt`: for whom does not see it."""
        return _img(self._images[place], alt, side)

    def uri(self, place: int, side: int) -> str:
        """The image alone, as an address that holds it: of `side` pixels at most, and few bytes."""
        return small_uri(self._images[place], side)

    def strip(self, places: Sequence[int], alt: str, side: int = 64) -> str:
        """Several images side by side as one element, each of `side` pixels at most."""
        return _img(np.concatenate([_small(self._images[place], side) for place in places], axis=1), alt, None)


def small_uri(image: np.ndarray, side: int) -> str:
    """An image, uint8 H×H×1 or H×H×3, as an address that holds it: of `side` pixels at most, and few bytes."""
    return _uri(_small(image, side), quality=75)


def _load(revision: Revision, split: str, path: str) -> np.ndarray | PicturesInShards:
    place = _on_this_machine(revision, path)
    try:
        # np.load would take an archive, too, and fail in other ways.
        array: np.ndarray = np.lib.format.open_memmap(place, mode="r")
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise Malformed(f"{path}: not an array in {revision} ({error}). `dvc repro prepare` makes it.") from None
    if is_sharded(array):
        return PicturesInShards(revision, split, array, lambda name: _on_this_machine(revision, name))
    shape = array.shape
    if array.dtype != np.uint8 or len(shape) != 4 or not 0 < shape[1] == shape[2] or shape[3] not in (1, 3):
        raise Malformed(
            f"{path}: expected uint8 of N×H×H×1 or N×H×H×3 in {revision}, got {array.dtype} of "
            f"{'×'.join(map(str, shape))}. `dvc repro prepare` makes it."
        )
    return array


def _on_this_machine(revision: Revision, path: str) -> Path:
    if revision.commit is None and Path(path).is_file():
        return Path(path)
    place = store.cached(revision.digest(path))
    if not place.is_file():
        raise Missing(f"{path}: of {revision}, not in DVC's cache. `dvc fetch` or `dvc repro prepare` brings it there.")
    return place


def _small(image: np.ndarray, side: int) -> np.ndarray:
    """Of `side` pixels at most: the mean of squares of pixels."""
    factor = math.ceil(image.shape[0] / side)
    if factor == 1:
        return image
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    smaller = np.asarray(picture.resize((side, side), Image.Resampling.BOX))
    return smaller[..., None] if grey else smaller


def _img(image: np.ndarray, alt: str, side: int | None) -> str:
    small = _small(image, side) if side else image
    pixels = ' class="pixels"' if small.shape[0] <= _SMALL else ""
    height, width = small.shape[:2]
    return f'<img{pixels} alt="{html(alt)}" width="{width}" height="{height}" src="{_uri(small, quality=85)}">'


def _uri(image: np.ndarray, quality: int) -> str:
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    stream = io.BytesIO()
    kind = "png" if image.shape[0] <= _SMALL else "jpeg"
    if kind == "png":
        picture.save(stream, "png", optimize=True)
    else:
        picture.save(stream, "jpeg", quality=quality, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
