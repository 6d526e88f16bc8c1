"""What a look at the data has found: the facts that page, terminal and CSV files show.

All images are those of the workspace's prepared/. Probabilities are out of sample: each by a classifier that has not
seen the image, nor any other of its group.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Picture(NamedTuple):
    """An image: the SHA-256 of its pixels, its path below data/, its class, and its split."""

    sha256: str
    path: str
    label: str
    split: str


class Suspect(NamedTuple):
    """An image whose label looks wrong: the class that is likely instead, the probabilities of both, and the nearest
    pictures, of either class, whose labels look right (None where there is none)."""

    picture: Picture
    suggested: str
    p_given: float
    p_suggested: float
    like_given: Picture | None
    like_suggested: Picture | None


class Stranger(NamedTuple):
    """An image far from all others: the mean distance of its nearest neighbours ÷ the median of all images'."""

    picture: Picture
    ratio: float


class Copies(NamedTuple):
    """Two images that show the same, by the cosine of their features (`likeness`); in two splits, a leak."""

    first: Picture
    second: Picture
    likeness: float


class Oddity(NamedTuple):
    """An image of unusual form: `kind` is dark, bright, blurred, tiny, narrow or plain; `what`, its figure in words."""

    picture: Picture
    kind: str
    what: str


class Slice(NamedTuple):
    """Images that have something in common: `by`, such as class or camera, is `value`. `images` of them were answered,
    `right` rightly; a 95 % interval of that share; the p-value that the slice is worse than the rest, corrected for the
    number of slices (1 where too few images to say)."""

    by: str
    value: str
    images: int
    right: int
    low: float
    high: float
    p_value: float

    @property
    def is_worse(self) -> bool:
        return self.p_value < 0.05


class Point(NamedTuple):
    """Accuracy with so many images to learn from: mean and 95 % interval."""

    images: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Measured points, and what is to be expected of twice the images; `why_not`: why there is no forecast, or no
    curve."""

    points: list[Point]
    forecast: Point | None
    why_not: str = ""


class Wanted(NamedTuple):
    """A class to collect images of: how many there are to learn from, its recall, and the recall that is to be expected
    of twice as many (None where there are too few to say)."""

    label: str
    images: int
    recall: float
    expected: float | None


@dataclass(frozen=True)
class Findings:
    """All of it. `facts`: names and values that say what was looked at, and how. `remarks`: what was not done, and why;
    what was decided before. Suspects, strangers and slices stand in the order in which to look at them, the worst
    first."""

    facts: dict[str, str]
    remarks: list[str]
    classes: list[str]
    suspects: list[Suspect]
    strangers: list[Stranger]
    copies: list[Copies]
    oddities: list[Oddity]
    slices: list[Slice]
    answered_by: str
    curve: LearningCurve
    wanted: list[Wanted]
