"""Whether predictions are right as often as their stated probabilities say."""

from typing import NamedTuple

import numpy as np


class Bins(NamedTuple):
    """Predictions by the probability that the model gave to the predicted class, in bins of equal width from 0 to 1:
    in each, how many, how many were right, and the sum of these probabilities."""

    images: np.ndarray
    right: np.ndarray
    confidence: np.ndarray


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: by how much stated confidence and accuracy differ, on average over the images.

    Guo et al., "On Calibration of Modern Neural Networks" (2017): the mean over `bins` of |accuracy - mean confidence|,
    weighted by their numbers of images. `confidence`: the largest probability of each image, float N; `right`: whether
    it is that of its class, bool N.
    """
    by_confidence = binned(confidence, right, bins)
    return float(np.abs(by_confidence.right - by_confidence.confidence).sum() / len(right))


def binned(confidence: np.ndarray, right: np.ndarray, bins: int) -> Bins:
    """Sort predictions by the probability of the predicted class, float N. `right`: bool N."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return Bins(*(np.bincount(index, weights, minlength=bins) for weights in (None, right, confidence)))
