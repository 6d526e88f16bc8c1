"""How good predictions are: the figures of metrics/evaluate.json and claim/test.json."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from stages.common.errors import UserError
from stages.common.softmax import softmax
from stages.evaluate.calibration import calibration_error
from stages.evaluate.intervals import wilson
from stages.evaluate.own_metric import Metric


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


def _accuracy(name: str, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    interval = wilson(int((predicted == labels).sum()), len(labels))
    return {name: interval.share, f"{name}_low": interval.low, f"{name}_high": interval.high}
