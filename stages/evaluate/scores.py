"""What is kept of a model's answers: figures of each image, never all probabilities of many classes at once."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from stages.common.softmax import softmax
from stages.evaluate.answers import BEST


class Scores(NamedTuple):
    """A model's answers to N images whose classes are known: int64 and float64 N, unless said otherwise.

    predicted       the class of the largest logit, of equal ones the first
    best            int64 N×5, or N×classes where there are fewer: the classes of the largest logits, in falling order
    probabilities   float64, of the same shape: the probabilities of these classes
    of_class        the probability of the image's own class
    log_of_class    its natural logarithm, which is finite where the probability underflows
    confidence      the largest probability
    probable        its class, which is another one than `predicted` where two logits differ by less than probabilities
    mirrored        the class of the largest mean of the logits of the image and of its mirror image; None without such
    all             float64 N×classes: every probability; None where they were not asked for
    """

    predicted: np.ndarray
    best: np.ndarray
    probabilities: np.ndarray
    of_class: np.ndarray
    log_of_class: np.ndarray
    confidence: np.ndarray
    probable: np.ndarray
    mirrored: np.ndarray | None
    all: np.ndarray | None


def score(
    parts: Iterable[np.ndarray],
    labels: np.ndarray,
    mirrored: Iterable[np.ndarray] | None = None,
    *,
    keep_all: bool = False,
) -> Scores:
    """Of logits that come in parts, float64 n×classes each, in the order of `labels`, int64 N. `mirrored`: those of the
    mirrored images, in the same parts. `keep_all`: every probability, 8 bytes for each image and class."""
    found: list[Scores] = []
    start = 0
    pairs = zip(parts, mirrored, strict=True) if mirrored is not None else ((part, None) for part in parts)
    for logits, other in pairs:
        found.append(_score(logits, labels[start : start + len(logits)], other, keep_all))
        start += len(logits)
    if start != len(labels):
        raise ValueError(f"logits of {start} images, but {len(labels)} labels")
    return Scores(
        *(None if columns[0] is None else np.concatenate(columns) for columns in zip(*found, strict=True))  # type: ignore[arg-type]
    )


def _score(logits: np.ndarray, labels: np.ndarray, mirrored: np.ndarray | None, keep_all: bool) -> Scores:
    rows = np.arange(len(labels))
    probabilities = softmax(logits)
    log_of_class = F.log_softmax(torch.from_numpy(logits), 1).numpy()[rows, labels]
    best = _largest(logits, min(BEST, logits.shape[1]))
    return Scores(
        predicted=best[:, 0],
        best=best,
        probabilities=probabilities[rows[:, None], best],
        of_class=probabilities[rows, labels],
        log_of_class=log_of_class,
        confidence=probabilities.max(1),
        probable=probabilities.argmax(1),
        mirrored=None if mirrored is None else (logits + mirrored).argmax(1),
        all=probabilities if keep_all else None,
    )


def _largest(logits: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` largest of each row in falling order, of equal ones the first: sorting thousands of
    classes for five of them takes many times as long."""
    rest = logits.copy()
    found = np.empty((len(logits), count), np.int64)
    for place in range(count):
        found[:, place] = rest.argmax(1)
        np.put_along_axis(rest, found[:, place, None], -np.inf, 1)
    return found
