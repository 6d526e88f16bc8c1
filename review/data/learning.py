"""Whether more images would help: accuracy by how many were learned from, and a careful forecast of twice as many.

Held-out images are answered by classifiers that have learned from m of the others, m doubling. Accuracy follows a power
law a - b · m^-c over a few doublings (Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017), not
over many (Viering, Loog, "The Shape of Learning Curves", 2022): so the forecast is of one doubling, and its interval
covers the law that knows no ceiling below 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from review.data.findings import LearningCurve, Point, Wanted
from review.data.probabilities import FOLDS, answers, folds_of
from stages.evaluate.intervals import wilson

# Fewer points, or images of a class, tell no law.
_FEWEST_POINTS = 4
_FEWEST_OF_CLASS = 20
# Of so many doublings, the law is fitted to.
_POINTS_FITTED = 5
_POINTS_MOST = 8
_RESAMPLES = 400
_EXPONENTS = np.geomspace(0.05, 2, 48)
# Accuracies are not known better, however alike those of the folds are.
_FLOOR = 0.002
# Less is not worth collecting for.
_LEAST_GAIN = 0.01


class Measured(NamedTuple):
    """`sizes`: how many images were learned from, rising. `predicted`, int64 repeats×sizes×N: the class of each image
    by a classifier that had learned so many of the other folds' images. `folds`, int64 repeats×N."""

    sizes: list[int]
    predicted: np.ndarray
    folds: np.ndarray


class Law(NamedTuple):
    """a - b · m^-c."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def at(self, images: float) -> np.ndarray:
        accuracy: np.ndarray = self.a - self.b * images**-self.c
        return accuracy


def measure(vectors: np.ndarray, labels: np.ndarray, groups: Sequence[str], repeats: int | None = None) -> Measured:
    """Answer all images by classifiers that learned ever more of the others. Each class needs images in FOLDS groups.

    With groups, images of one are learned from together, as they are collected. By default, small data is drawn from
    several times.
    """
    number, classes = len(labels), int(labels.max()) + 1
    if repeats is None:
        repeats = 4 if number <= 2_000 else 2 if number <= 20_000 else 1
    folds = np.array([folds_of(labels, groups, seed=seed) for seed in range(repeats)])
    most = number - max(int(np.bincount(of_repeat).max()) for of_repeat in folds)
    sizes = [most]
    while sizes[0] // 2 >= max(10, 2 * classes) and len(sizes) < _POINTS_MOST:
        sizes.insert(0, sizes[0] // 2)
    predicted = np.empty((repeats, len(sizes), number), np.int64)
    for repeat, of_repeat in enumerate(folds):
        generator = np.random.default_rng(repeat)
        for fold in range(FOLDS):
            held_out = np.flatnonzero(of_repeat == fold)
            order = _stratified(np.flatnonzero(of_repeat != fold), labels, groups, generator)
            for place, size in enumerate(sizes):
                learned = order[:size]
                said = answers(vectors[learned], labels[learned], vectors[held_out], classes)
                predicted[repeat, place, held_out] = said.argmax(1)
    return Measured(sizes, predicted, folds)


def _stratified(
    rows: np.ndarray, labels: np.ndarray, groups: Sequence[str], generator: np.random.Generator
) -> np.ndarray:
    """The rows in a random order of which every beginning has about the same shares of classes."""
    keys: dict[str, float] = {}
    random = np.array(
        [
            keys.setdefault(groups[row], key) if groups[row] else key
            for row, key in zip(rows.tolist(), generator.random(len(rows)).tolist(), strict=True)
        ]
    )
    places = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        of_class = np.flatnonzero(labels[rows] == label)
        ordered = of_class[np.argsort(random[of_class], kind="stable")]
        # A random start, so that a beginning that is not a multiple of the classes has no favourites.
        places[ordered] = (np.arange(len(ordered)) + generator.random()) / len(ordered)
    return rows[np.argsort(places, kind="stable")]


def curve(measured: Measured, labels: np.ndarray) -> LearningCurve:
    """The points, and the forecast of twice the images of the last."""
    of_folds = _accuracies(measured, labels)
    points = [_point(size, row, len(labels)) for size, row in zip(measured.sizes, of_folds.T, strict=True)]
    if len(points) < _FEWEST_POINTS:
        return LearningCurve(points, None, f"{len(labels)} images are too few for {_FEWEST_POINTS} points of a curve")
    return LearningCurve(points, _forecast(measured.sizes, of_folds, points[-1]))


def wanted(measured: Measured, labels: np.ndarray, classes: Sequence[str]) -> list[Wanted]:
    """Classes of which recall would rise by a hundredth or more, those that would gain most first; then the classes of
    too few images to say, the worst first. `expected` is what twice the images of all classes would bring."""
    right = (measured.predicted == labels).mean(0)
    last = right[-1]
    law = None
    if len(measured.sizes) >= _FEWEST_POINTS:
        law = _fitted(measured.sizes, _accuracies(measured, labels))
    found = []
    for label, name in enumerate(classes):
        of_class = labels == label
        number, recall = int(of_class.sum()), float(last[of_class].mean())
        if law is None or number < _FEWEST_OF_CLASS:
            found.append(Wanted(name, number, recall, None))
            continue
        # The exponent of all classes: of one, there are too few images to tell it.
        recalls = right[-_POINTS_FITTED:, of_class].mean(1)[None]
        of_law = _fit(measured.sizes[-_POINTS_FITTED:], recalls, np.ones(recalls.shape[1]), law.c)
        gain = float(of_law.at(2 * measured.sizes[-1])[0] - of_law.at(measured.sizes[-1])[0])
        expected = min(1.0, recall + gain)
        if expected - recall >= _LEAST_GAIN:
            found.append(Wanted(name, number, recall, expected))
    return sorted(found, key=lambda one: (one.expected is None, one.recall - (one.expected or 0), one.label))


def _accuracies(measured: Measured, labels: np.ndarray) -> np.ndarray:
    """Of each fold of each repeat, by size: float64 (repeats · folds)×sizes."""
    right = measured.predicted == labels
    return np.array(
        [
            right[repeat][:, of_repeat == fold].mean(1)
            for repeat, of_repeat in enumerate(measured.folds)
            for fold in range(FOLDS)
        ]
    )


def _point(size: int, of_folds: np.ndarray, images: int) -> Point:
    """Mean and interval: of Student's t with the variance of Nadeau and Bengio, "Inference for the Generalization
    Error" (2003), as folds share their images; but never narrower than Wilson's of so many images."""
    from scipy.stats import t as student

    accuracy = float(of_folds.mean())
    half = float(student.ppf(0.975, len(of_folds) - 1)) * float(of_folds.std(ddof=1)) * _spread(len(of_folds))
    counted = wilson(round(accuracy * images), images)
    low, high = min(counted.low, accuracy - half), max(counted.high, accuracy + half)
    return Point(size, accuracy, max(0.0, low), min(1.0, high))


def _spread(folds: int) -> float:
    """The standard error of the mean of cross-validation's folds ÷ their standard deviation."""
    return float((1 / folds + 1 / (FOLDS - 1)) ** 0.5)


def _forecast(sizes: Sequence[int], of_folds: np.ndarray, last: Point) -> Point:
    """Folds are drawn anew many times for the interval, which then spans what the law and the one whose a is 1 say."""
    twice = 2 * sizes[-1]
    central = float(_fitted(sizes, of_folds).at(twice)[0])
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(of_folds), (_RESAMPLES, len(of_folds)))
    resampled = _fitted(sizes, of_folds, drawn).at(twice)
    # Folds share their images, which resampling does not know.
    apart = (resampled - central) * (_spread(len(of_folds)) * len(of_folds) ** 0.5)
    low, high = central + np.quantile(apart, [0.025, 0.975])
    # An error that falls by the same factor with each doubling has no ceiling below 1.
    factor = np.polyfit(
        np.log(sizes[-_POINTS_FITTED:]), np.log(np.maximum(1 - of_folds.mean(0)[-_POINTS_FITTED:], 1e-9)), 1
    )[0]
    unlimited = 1 - (1 - last.accuracy) * 2 ** min(factor, 0.0)
    accuracy = float(np.clip(central, last.accuracy, 1))
    low, high = min(float(low), accuracy), max(float(high), unlimited, accuracy)
    return Point(twice, accuracy, max(0.0, low), min(1.0, high))


def _fitted(sizes: Sequence[int], of_folds: np.ndarray, drawn: np.ndarray | None = None) -> Law:
    """The law of the last points of the folds' mean, or of the mean of the folds in each row of `drawn`."""
    some = of_folds[:, -_POINTS_FITTED:]
    means = some.mean(0)[None] if drawn is None else some[drawn].mean(1)
    return _fit(sizes[-_POINTS_FITTED:], means, 1 / (some.var(0, ddof=1) + _FLOOR**2), _EXPONENTS)


def _fit(sizes: Sequence[int], accuracies: np.ndarray, weights: np.ndarray, exponents: np.ndarray) -> Law:
    """Weighted least squares with a ≤ 1 and b ≥ 0, of curves n×sizes: for each exponent in closed form, then the best
    exponent of each curve."""
    weights = weights / weights.sum()
    falling = np.array(sizes, float) ** -exponents[:, None]  # exponents×sizes
    mean_x, mean_y = falling @ weights, accuracies @ weights
    apart = falling - mean_x[:, None]
    slope = (accuracies * weights) @ apart.T / ((apart**2) @ weights)  # n×exponents
    a, b = mean_y[:, None] - slope * mean_x, -slope
    capped = a > 1
    a = np.where(capped, 1, a)
    b = np.where(capped, ((1 - accuracies) * weights) @ falling.T / ((falling**2) @ weights), b)
    flat = b < 0
    a, b = np.where(flat, np.minimum(mean_y, 1)[:, None], a), np.where(flat, 0, b)
    misses = accuracies[:, None] - (a[..., None] - b[..., None] * falling)
    best = ((misses**2) @ weights).argmin(1)
    rows = np.arange(len(accuracies))
    return Law(a[rows, best], b[rows, best], exponents[best])
