"""Images of unusual form: dark, bright, blurred, tiny, narrow, plain.

Each kind has a limit that photographs seldom pass. Where more than 5 % of the images pass it, that is what this data is
like, as with digits on black: then only those are named that lie beyond Tukey's outer fence on that side.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from review.data import fences
from review.data.features import Image
from review.data.findings import Oddity, Picture

_USUAL = 0.05
# Of each kind, fewer images are not enough to have fences.
_FEWEST = 20


class _Kind(NamedTuple):
    """`measure`: a figure of each image that is the larger, the odder it is; `limit`, its limit; `words`, how it is
    said."""

    name: str
    measure: np.ndarray
    limit: float
    words: Callable[[Image], str]


def oddities(images: Sequence[Image], pictures: Sequence[Picture]) -> tuple[list[Oddity], list[str]]:
    """All of them, by kind, the oddest of each first; and the kinds of which this data is full, in a remark each."""
    found, remarks = [], []
    for kind in _kinds(images):
        beyond = kind.measure > kind.limit
        if beyond.mean() > _USUAL:
            fence = max(kind.limit, fences.above(kind.measure, fences.OUTER))
            beyond = kind.measure > fence if len(images) >= _FEWEST else np.zeros(len(images), bool)
            remarks.append(
                f"{kind.name}: so are over {_USUAL:.0%} of the images, and it is usual here. Only those beyond the "
                "others are listed."
            )
        rows = np.flatnonzero(beyond)
        found += [
            Oddity(pictures[row], kind.name, kind.words(images[row]))
            for row in rows[np.argsort(-kind.measure[rows], kind="stable")]
        ]
    return found, remarks


def _kinds(images: Sequence[Image]) -> list[_Kind]:
    brightness = np.array([image.brightness for image in images])
    # An even surface has no Laplacian.
    sharpness = np.log(np.maximum([image.sharpness for image in images], 0.01))
    width, height = (np.array([getattr(image, side) for image in images], float) for side in ("width", "height"))
    shorter = np.log(np.minimum(width, height))
    ratio = np.log(np.maximum(width, height)) - shorter
    plain = np.array([image.plain for image in images])
    return [
        # Of 396 photographs of ants and bees, the means lie between 46 and 240 of 255, two above 225.
        _Kind("dark", -brightness, -30, lambda image: f"mean brightness {image.brightness:.0f} of 255"),
        _Kind("bright", brightness, 225, lambda image: f"mean brightness {image.brightness:.0f} of 255"),
        # A sixteenth of the median is the least of the photographs; out of focus by a 60th of the width, a 200th.
        _Kind(
            "blurred",
            float(np.median(sharpness)) - sharpness,
            float(np.log(25)),
            lambda image: f"sharpness {image.sharpness:.3g}; the median is {np.exp(np.median(sharpness)):.3g}",
        ),
        _Kind(
            "tiny",
            float(np.median(shorter)) - shorter,
            float(np.log(4)),
            lambda image: (
                f"{image.width} × {image.height} pixels; the median's shorter side has {np.exp(np.median(shorter)):.0f}"
            ),
        ),
        _Kind("narrow", ratio, float(np.log(3)), lambda image: f"{image.width} × {image.height} pixels"),
        _Kind("plain", plain, 0.5, lambda image: f"{image.plain:.0%} of it has one grey level"),
    ]
