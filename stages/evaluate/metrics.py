"""How good predictions are: the figures of metrics/evaluate.json and claim/test.json."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from stages.common.errors import UserError
from stages.evaluate.answers import BEST
from stages.evaluate.calibration import calibration_error
from stages.evaluate.intervals import wilson
from stages.evaluate.own_metric import Metric
from stages.evaluate.scores import Scores


class PerClass(NamedTuple):
    """A figure for each class: float64 N. Where nothing was counted, as precision of a class never predicted, 0."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class Confusions(NamedTuple):
    """How many images of which class the model takes for which: int64 M of those M pairs that occur, sorted by actual,
    then by predicted class. A matrix of ten thousand classes would be a hundred million zeros."""

    actual: np.ndarray
    predicted: np.ndarray
    images: np.ndarray
    classes: int

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> "Confusions":
        """Count; `labels` and `predicted`: int64 N."""
        pairs, images = np.unique(labels * classes + predicted, return_counts=True)
        return cls(*np.divmod(pairs, classes), images.astype(np.int64), classes)

    @property
    def matrix(self) -> np.ndarray:
        """int64 classes×classes: actual classes by row, predicted ones by column."""
        matrix = np.zeros((self.classes, self.classes), np.int64)
        matrix[self.actual, self.predicted] = self.images
        return matrix

    @property
    def of_class(self) -> np.ndarray:
        """Images of each class, int64."""
        return self._sum(self.actual, self.images)

    def most_frequent(self, count: int) -> "Confusions":
        """The `count` most frequent mistakes; of equally frequent ones, those of the first classes."""
        wrong = np.flatnonzero(self.actual != self.predicted)
        order = wrong[np.argsort(-self.images[wrong], kind="stable")][:count]
        return Confusions(self.actual[order], self.predicted[order], self.images[order], self.classes)

    def _sum(self, places: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.bincount(places, images, minlength=self.classes).astype(np.int64)

    def per_class(self) -> PerClass:
        """Precision, recall and their harmonic mean."""
        diagonal = self.actual == self.predicted
        right = self._sum(self.actual[diagonal], self.images[diagonal])
        actual, predicted = self.of_class, self._sum(self.predicted, self.images)
        return PerClass(
            precision=right / np.maximum(predicted, 1),
            recall=right / np.maximum(actual, 1),
            f1=2 * right / np.maximum(actual + predicted, 1),
        )


def measure(scores: Scores, labels: np.ndarray, classes: int, metric: Metric | None = None) -> dict[str, float]:
    """The figures of `scores` on `labels`, int64 N, in which every class must occur.

    `accuracy_low` and `accuracy_high` are the 95 % interval, Wilson's: were the images drawn at random, it holds the
    true accuracy in 95 of 100 draws. Loss is the mean cross-entropy in nats. Balanced accuracy and macro-F1 are the
    means of the classes' recalls and F1. Majority accuracy is that of naming the largest class for every image. Top-5
    accuracy is there for more than five classes; of equal logits, those of the first classes count as larger, as for
    accuracy.

    Where there are answers to mirrored images, `tta_accuracy` and its interval are those of the mean of both logits.
    `metric`: what params.yaml names as own figure, for which `scores` must have kept all probabilities. UserError where
    another figure has its name.
    """
    columns = Confusions.of(labels, scores.predicted, classes).per_class()
    figures = {
        **_accuracy("accuracy", scores.predicted, labels),
        "balanced_accuracy": float(columns.recall.mean()),
        "calibration_error": calibration_error(scores.confidence, scores.probable == labels),
        "loss": _mean_loss(scores.log_of_class),
        "macro_f1": float(columns.f1.mean()),
        "majority_accuracy": float(np.bincount(labels).max() / len(labels)),
    }
    if classes > BEST:
        figures["top5_accuracy"] = float((scores.best == labels[:, None]).any(1).mean())
    if scores.mirrored is not None:
        figures |= _accuracy("tta_accuracy", scores.mirrored, labels)
    if metric:
        if metric.name in figures or metric.name == "images":
            raise UserError(f"{metric.extension}: {metric.name} is the name of another figure. Rename the function.")
        assert scores.all is not None
        figures[metric.name] = metric(scores.all, labels)
    return {name: round(value, 6) for name, value in sorted(figures.items())} | {"images": len(labels)}


def _mean_loss(log_of_class: np.ndarray) -> float:
    """As torch.nn.functional.cross_entropy sums: for it, each image has one class."""
    return F.nll_loss(torch.from_numpy(log_of_class)[:, None], torch.zeros(len(log_of_class), dtype=torch.int64)).item()


def _accuracy(name: str, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    interval = wilson(int((predicted == labels).sum()), len(labels))
    return {name: interval.share, f"{name}_low": interval.low, f"{name}_high": interval.high}
