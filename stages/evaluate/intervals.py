"""How sure a share is that was counted on a sample."""

from typing import NamedTuple


class Interval(NamedTuple):
    """A share, and the range of true probabilities that the counted images do not contradict."""

    share: float
    low: float
    high: float


def wilson(correct: int, images: int, confidence: float = 0.95) -> Interval:
    """The share of correct images with Wilson's score interval (1927), as scipy computes it."""
    from scipy.stats import binomtest

    bounds = binomtest(correct, images).proportion_ci(confidence, method="wilson")
    return Interval(correct / images, float(bounds.low), float(bounds.high))
