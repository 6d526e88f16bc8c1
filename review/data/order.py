"""Which unlabelled pictures to label first: those of which the classifier is unsure, and that are unlike each other.

BADGE (Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020): each picture
stands for the gradient that its likeliest label would give the last layer, which is long where the classifier is
unsure; k-means++ draws pictures far from those drawn before.
"""

from typing import NamedTuple

import numpy as np

from review.data.probabilities import answers


class Useful(NamedTuple):
    """A picture to label: its row, and the likeliest class and its probability."""

    row: int
    label: int
    probability: float


def labelling_order(
    vectors: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, count: int, seed: int = 0
) -> list[Useful]:
    """The `count` most useful of unlabelled vectors, M×d, by what vectors, N×d, and their labels teach; all of them
    where there are fewer. The most useful first; the same each time."""
    if not len(unlabelled):
        return []
    probabilities = answers(vectors, labels, unlabelled, int(labels.max()) + 1)
    likely = probabilities.argmax(1)
    rows = _k_means_plus_plus(probabilities, likely, unlabelled, min(count, len(unlabelled)), seed)
    return [Useful(row, int(likely[row]), float(probabilities[row, likely[row]])) for row in rows]


def _k_means_plus_plus(
    probabilities: np.ndarray, likely: np.ndarray, vectors: np.ndarray, count: int, seed: int
) -> list[int]:
    """Gradients are (probability - likeliest label) ⊗ vector: their products are those of the two factors', so they
    are never written out."""
    generator = np.random.default_rng(seed)
    errors = probabilities.copy()
    errors[np.arange(len(errors)), likely] -= 1
    # A constant, as the classifier has a bias.
    inputs = np.hstack([vectors, np.ones((len(vectors), 1), vectors.dtype)])
    squares = (errors**2).sum(1, dtype=np.float64) * (inputs**2).sum(1, dtype=np.float64)
    rows = [int(squares.argmax())]
    nearest = np.full(len(vectors), np.inf)
    while True:
        last = rows[-1]
        products = (errors @ errors[last]).astype(np.float64) * (inputs @ inputs[last])
        nearest = np.minimum(nearest, np.maximum(squares + squares[last] - 2 * products, 0))
        nearest[rows] = 0
        if len(rows) == count:
            return rows
        total = nearest.sum()
        if total > 0:
            drawn = int(np.searchsorted(np.cumsum(nearest), generator.random() * total, side="right"))
            rows.append(min(drawn, int(np.flatnonzero(nearest)[-1])))
        else:  # those left are the same as those drawn
            rows += np.setdiff1d(np.arange(len(vectors)), rows)[: count - len(rows)].tolist()
