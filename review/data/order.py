"""Which unlabelled pictures to label first: those of which the classifier is unsure, and that stand for many others.

Filtered active submodular selection (Wei, Iyer, Bilmes, "Submodularity in Data Subset Selection and Active Learning",
ICML 2015): of the least sure pictures, each next one is that which most raises how well all of them are represented by
a labelled or chosen one. To be unsure counts as a weight: alone, it chooses what is alike, or belongs to no class.
"""

import heapq
from typing import NamedTuple

import numpy as np

from review.data.neighbours import nearest
from review.data.probabilities import answers
from review.data.vectors import directions

# All pairs of so many are compared.
_MOST = 4_000


class Useful(NamedTuple):
    """A picture to label: its row, and the likeliest class and its probability."""

    row: int
    label: int
    probability: float


def labelling_order(vectors: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, count: int) -> list[Useful]:
    """The `count` most useful of unlabelled vectors, M×d, by what vectors, N×d, and their labels teach; all of them
    where there are fewer. The most useful first."""
    if not len(unlabelled):
        return []
    probabilities = answers(vectors, labels, unlabelled, int(labels.max()) + 1)
    likely = probabilities.argmax(1)
    unsure = 1 - _margins(probabilities)
    by_doubt = np.argsort(-unsure, kind="stable")
    candidates = by_doubt[:_MOST]
    units = directions(unlabelled[candidates])
    _, known = nearest(units, 1, directions(vectors))
    # By its root: a classifier that has seen few images is unsure of the wrong ones.
    weights = np.sqrt(unsure[candidates])
    chosen = candidates[_representatives(units, weights, known[:, 0], min(count, len(candidates)))]
    # Beyond the candidates, the least sure come first.
    rows = np.concatenate([chosen, by_doubt[len(candidates) : len(candidates) + max(0, count - len(chosen))]])
    return [Useful(row, int(likely[row]), float(probabilities[row, likely[row]])) for row in rows.tolist()]


def _margins(probabilities: np.ndarray) -> np.ndarray:
    """How far the likeliest class is ahead of the next."""
    if probabilities.shape[1] == 1:
        return np.ones(len(probabilities), np.float32)
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    margins: np.ndarray = two[:, 1] - two[:, 0]
    return margins


def _representatives(units: np.ndarray, weights: np.ndarray, known: np.ndarray, count: int) -> list[int]:
    """Rows of unit vectors, m×d, chosen greedily so that the weighted sum of each one's cosine with the nearest chosen
    one, or with what is `known`, is largest. What a row adds only shrinks as others are chosen, so that most need not
    be computed anew (Minoux, 1978)."""
    likeness = np.maximum(units @ units.T, 0)
    covered = np.maximum(known, 0)

    def gain(row: int) -> float:
        return float(weights @ np.maximum(likeness[row] - covered, 0))

    heap = [(-gain(row), row) for row in range(len(units))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, row = heapq.heappop(heap)
        now = gain(row)
        if heap and (-now, row) > heap[0]:
            heapq.heappush(heap, (-now, row))
            continue
        chosen.append(row)
        np.maximum(covered, likeness[row], out=covered)
    return chosen
