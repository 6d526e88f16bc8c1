"""How good predictions are: the figures of metrics/evaluate.json and claim/test.json."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from stages.common.errors import UserError
from stages.evaluate.own_metric import Metric
from stages.model.trained import softmax


class Interval(NamedTuple):
    """A share, and the range of true probabilities that the counted images do not contradict."""

    share: float
    low: float
    high: float


class Bins(NamedTuple):
    """Predictions by the probability that the model gave to the predicted class, in bins of equal width from 0 to 1:
    in each, how many, how many were right, and the sum of these probabilities."""

    images: np.ndarray
    right: np.ndarray
    confidence: np.ndarray


class PerClass(NamedTuple):
    """A figure for each class: float64 N. Where nothing was counted, as precision of a class never predicted, 0."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 classes×classes: how many images of each class, by row, the model takes for each, by column."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(matrix: np.ndarray) -> PerClass:
    """Precision, recall and their harmonic mean, of a confusion matrix."""
    right, actual, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return PerClass(
        precision=right / np.maximum(predicted, 1),
        recall=right / np.maximum(actual, 1),
        f1=2 * right / np.maximum(actual + predicted, 1),
    )


def wilson(correct: int, images: int, confidence: float = 0.95) -> Interval:
    """The share of correct images with Wilson's score interval (1927), as scipy computes it."""
    from scipy.stats import binomtest

    bounds = binomtest(correct, images).proportion_ci(confidence, method="wilson")
    return Interval(correct / images, float(bounds.low), float(bounds.high))


def measure(
    logits: np.ndarray, labels: np.ndarray, mirrored: np.ndarray | None = None, metric: Metric | None = None
) -> dict[str, float]:
    """The figures of `logits`, float64 N×classes, on `labels`, int64 N, in which every class must occur.

    `accuracy_low` and `accuracy_high` are the 95 % interval, Wilson's: were the images drawn at random, it holds the
    true accuracy in 95 of 100 draws. Loss is the mean cross-entropy in nats. Balanced accuracy and macro-F1 are the
    means of the classes' recalls and F1. Majority accuracy is that of naming the largest class for every image. Top-5
    accuracy is there for more than five classes; of equal logits, those of the first classes count as larger, as for
    accuracy.

    `mirrored`: logits of the images mirrored; `tta_accuracy` and its interval are those of the mean of both logits.
    `metric`: what params.yaml names as own figure. UserError where another figure has its name.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(1)
    columns = per_class(confusion_matrix(labels, predicted, classes))
    figures = {
        **_accuracy("accuracy", predicted, labels),
        "balanced_accuracy": float(columns.recall.mean()),
        "calibration_error": calibration_error(softmax(logits), labels),
        "loss": F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item(),
        "macro_f1": float(columns.f1.mean()),
        "majority_accuracy": float(np.bincount(labels).max() / len(labels)),
    }
    if classes > 5:
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        figures["top5_accuracy"] = float((best == labels[:, None]).any(1).mean())
    if mirrored is not None:
        figures |= _accuracy("tta_accuracy", (logits + mirrored).argmax(1), labels)
    if metric:
        if metric.name in figures or metric.name == "images":
            raise UserError(f"{metric.extension}: {metric.name} is the name of another figure. Rename the function.")
        figures[metric.name] = metric(softmax(logits), labels)
    return {name: round(value, 6) for name, value in sorted(figures.items())} | {"images": len(labels)}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: by how much stated confidence and accuracy differ, on average over the images.

    Guo et al., "On Calibration of Modern Neural Networks" (2017): the mean over `bins` of |accuracy - mean confidence|,
    weighted by their numbers of images. `probabilities`: float N×classes.
    """
    by_confidence = binned(probabilities, labels, bins)
    return float(np.abs(by_confidence.right - by_confidence.confidence).sum() / len(labels))


def binned(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> Bins:
    """Sort predictions by their confidence. `probabilities`: float N×classes; `labels`: int N."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return Bins(*(np.bincount(index, weights, minlength=bins) for weights in (None, right, confidence)))


def _accuracy(name: str, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    interval = wilson(int((predicted == labels).sum()), len(labels))
    return {name: interval.share, f"{name}_low": interval.low, f"{name}_high": interval.high}
