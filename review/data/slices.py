"""Images that have something in common, of which more are answered wrongly than of the rest, by more than chance.

Each slice is compared with all other images by Fisher's exact test (1935), one-sided: given how many of all images are
answered rightly, how many of the slice would be. Holm's correction makes one promise for all slices together: where
answers depend on nothing, in 5 % of cases at most one or more slices are called worse. So what was observed counts
whole: tests by mid-p keep no such promise.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from review.data.features import Image
from review.data.findings import Slice
from review.drift.homogeneity import holm
from stages.evaluate.intervals import wilson

# Of fewer images, a slice tells nothing, and testing it would cost the others.
FEWEST = 10
_QUARTERS = (0.25, 0.5, 0.75)


class Group(NamedTuple):
    """A slice before it is tested: rows of images, in order."""

    by: str
    value: str
    rows: tuple[int, ...]


class Tested(NamedTuple):
    """A slice, how many of its images were answered rightly, and the corrected p value that it is worse."""

    group: Group
    right: int
    p_value: float


def slices(images: Sequence[Image], right: np.ndarray) -> tuple[list[Slice], list[str]]:
    """Of images and whether each was answered rightly, bool N: the slices, those that are worse first; and a remark on
    what was not tested."""
    groups = list(groups_of(images))
    found = []
    for group, number, p_value in tested(groups, right):
        interval = wilson(number, len(group.rows))
        found.append(Slice(group.by, group.value, len(group.rows), number, interval.low, interval.high, p_value))
    remarks = []
    if small := sum(len(group.rows) < FEWEST for group in groups):
        remarks.append(f"Slices of fewer than {FEWEST} images are not tested, and not shown: {small:,}.")
    return sorted(found, key=lambda one: (one.p_value, one.right / one.images, one.by, one.value)), remarks


def tested(groups: Sequence[Group], right: np.ndarray) -> list[Tested]:
    """Compare each slice that is large enough, and leaves enough, with the rest. The same images under another name are
    the same slice, and tested once."""
    large = [group for group in groups if FEWEST <= len(group.rows) <= len(right) - FEWEST]
    once = list({group.rows: group for group in reversed(large)}.values())[::-1]
    counts = [int(right[list(group.rows)].sum()) for group in once]
    corrected = holm(_worse([len(group.rows) for group in once], counts, right))
    return [Tested(*row) for row in zip(once, counts, corrected, strict=True)]


def _worse(images: Sequence[int], right: Sequence[int], all_right: np.ndarray) -> list[float]:
    """The p value that each slice of so many images, so many of them right, is worse than the rest."""
    from scipy.stats import hypergeom

    if not images:
        return []
    found: list[float] = hypergeom.cdf(right, len(all_right), int(all_right.sum()), images).tolist()
    return found


def groups_of(images: Sequence[Image]) -> Iterator[Group]:
    """All slices, of whatever size, by what is known of the images."""
    values = {
        "class": [image.label for image in images],
        "split": [image.split for image in images],
        "folder": [str(PurePosixPath(image.path).parent) for image in images],
        "top folder": [PurePosixPath(image.path).parts[0] for image in images],
        "format": [PurePosixPath(image.path).suffix.lower() for image in images],
        "group": [image.group for image in images],
        "camera": [image.camera for image in images],
    }
    for by, of_image in values.items():
        yield from _alike(by, of_image)
    numbers = {
        "shorter side": ([min(image.width, image.height) for image in images], " pixels"),
        "longer ÷ shorter side": (
            [max(image.width, image.height) / max(1, min(image.width, image.height)) for image in images],
            "",
        ),
        "brightness": ([image.brightness for image in images], ""),
        "contrast": ([image.contrast for image in images], ""),
        "sharpness": ([image.sharpness for image in images], ""),
    }
    for by, (figures, unit) in numbers.items():
        yield from _quarters(by, np.array(figures, float), unit)
    yield from _periods(images)


def _alike(by: str, values: Sequence[str]) -> Iterator[Group]:
    """A slice of each value but the empty one; none where all images have the same."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        if value:
            rows[value].append(row)
    if len(rows) > 1 or "" in values:
        yield from (Group(by, value, tuple(rows[value])) for value in sorted(rows))


def _quarters(by: str, figures: np.ndarray, unit: str) -> Iterator[Group]:
    """Four slices at the quartiles; fewer where many images have the same figure."""
    bounds = np.unique(np.quantile(figures, _QUARTERS, method="inverted_cdf"))
    yield from _between(by, figures, bounds, [f"{_rounded(bound)}{unit}" for bound in bounds.tolist()])


def _periods(images: Sequence[Image]) -> Iterator[Group]:
    """The same of the days on which pictures were taken, of those that say it."""
    dated = [row for row, image in enumerate(images) if image.taken]
    if not dated:
        return
    days, numbers = np.unique([images[row].taken for row in dated], return_inverse=True)
    bounds = np.unique(np.quantile(numbers, _QUARTERS, method="inverted_cdf"))
    for group in _between("taken", numbers, bounds, [str(days[bound]) for bound in bounds]):
        yield group._replace(rows=tuple(dated[row] for row in group.rows))


def _between(by: str, figures: np.ndarray, bounds: np.ndarray, words: Sequence[str]) -> Iterator[Group]:
    """Slices of figures up to the first bound, up to the second, …, above the last."""
    places = np.searchsorted(bounds, figures, side="left")
    for place in range(len(bounds) + 1):
        rows = tuple(np.flatnonzero(places == place).tolist())
        if not rows or len(rows) == len(figures):
            continue
        if place == 0:
            value = f"up to {words[0]}"
        elif place == len(bounds):
            value = f"above {words[-1]}"
        else:
            value = f"above {words[place - 1]}, up to {words[place]}"
        yield Group(by, value, rows)


def _rounded(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
