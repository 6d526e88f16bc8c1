"""Labels that look wrong, by out-of-sample probabilities.

How many to suspect is said by confident learning (Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty
in Dataset Labels", JAIR 70, 2021), by cleanlab: those whose own class is least likely. That is done twice: the first
time, classifiers learn from all images, the second time without those that are suspected, so that what is wrong does
not speak for itself.

A weak classifier makes it suspect many labels that are right. The order holds all the same: the first are the ones to
look at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from review.data import neighbours
from review.data.findings import Picture, Suspect
from review.data.probabilities import cross_validated
from review.data.vectors import directions


class Search(NamedTuple):
    """Of N images: the probability of each class, float32 N×K; whether the label is suspected, bool N; and how well it
    fits the probabilities, N, the worst being the first to look at. `says`, int64 N: the class that the first
    classifiers say; the second ones are surer than they may be, as suspects were chosen by these labels."""

    probabilities: np.ndarray
    suspected: np.ndarray
    quality: np.ndarray
    says: np.ndarray


def search(vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Search:
    """Look for wrong labels. Each class of `labels`, int64 N, 0 to K - 1, needs images in two folds at least."""
    first = cross_validated(vectors, labels, folds)
    trusted = ~_issues(first, labels)
    # A class that a classifier would lose by it keeps its images.
    for label in range(first.shape[1]):
        of_class = labels == label
        if any(not (of_class & trusted & (folds != fold)).any() for fold in range(int(folds.max()) + 1)):
            trusted |= of_class
    probabilities = cross_validated(vectors, labels, folds, trusted)
    return Search(probabilities, _issues(probabilities, labels), _quality(probabilities, labels), first.argmax(1))


def _issues(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from cleanlab.filter import find_label_issues

    found: np.ndarray = find_label_issues(labels, probabilities, filter_by="low_self_confidence", n_jobs=1)
    return found


def _quality(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from cleanlab.rank import get_label_quality_scores

    found: np.ndarray = get_label_quality_scores(labels, probabilities, method="self_confidence")
    return found


def suspects(
    found: Search, vectors: np.ndarray, labels: np.ndarray, classes: Sequence[str], pictures: Sequence[Picture]
) -> list[Suspect]:
    """The suspected images, the worst first, each with what is likely instead, and with the nearest pictures of both
    classes that are not suspected."""
    rows = np.flatnonzero(found.suspected)
    rows = rows[np.argsort(found.quality[rows], kind="stable")]
    others = found.probabilities[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -1
    suggested = others.argmax(1)
    units = directions(vectors)
    like_given = _nearest_of(rows, labels[rows], units, labels, found.suspected)
    like_suggested = _nearest_of(rows, suggested, units, labels, found.suspected)

    def picture(row: int) -> Picture | None:
        return None if row < 0 else pictures[row]

    return [
        Suspect(
            pictures[row],
            classes[other],
            float(found.probabilities[row, labels[row]]),
            float(found.probabilities[row, other]),
            picture(given),
            picture(instead),
        )
        for row, other, given, instead in zip(
            rows.tolist(), suggested.tolist(), like_given.tolist(), like_suggested.tolist(), strict=True
        )
    ]


def _nearest_of(
    rows: np.ndarray, wanted: np.ndarray, units: np.ndarray, labels: np.ndarray, suspected: np.ndarray
) -> np.ndarray:
    """For each of `rows`, the nearest row of the `wanted` class that is not suspected; -1 where there is none."""
    nearest = np.full(len(rows), -1)
    for label in np.unique(wanted).tolist():
        candidates = np.flatnonzero((labels == label) & ~suspected)
        asked = np.flatnonzero(wanted == label)
        if len(candidates):
            found, _ = neighbours.nearest(units[rows[asked]], 1, units[candidates])
            nearest[asked] = candidates[found[:, 0]]
    return nearest
