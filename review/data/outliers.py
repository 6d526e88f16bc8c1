"""Images that do not belong: far from their nearest neighbours in the space of features.

Kuan, Mueller, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines" (2022), which cleanlab follows:
the mean cosine distance of the ten nearest neighbours, of features as they are. Standardised ones hide what the network
saw of nothing that it knows.
"""

from collections.abc import Sequence

import numpy as np

from review.data import fences
from review.data.findings import Picture, Stranger
from review.data.neighbours import Neighbourhood

# Fewer images have no neighbourhood to be far from.
FEWEST = 20


def strangers(near: Neighbourhood, pictures: Sequence[Picture]) -> list[Stranger]:
    """Images beyond the inner fence of the distances' logarithms, the farthest first; none of fewer than FEWEST."""
    if len(pictures) < FEWEST:
        return []
    ratios = distance_ratios(near)
    limit = fences.above(np.log(ratios), fences.INNER)
    rows = np.flatnonzero(np.log(ratios) > limit)
    return [Stranger(pictures[row], float(ratios[row])) for row in rows[np.argsort(-ratios[rows], kind="stable")]]


def distance_ratios(near: Neighbourhood) -> np.ndarray:
    """The mean distance of each image's neighbours ÷ the median of all, float64 N."""
    # Images that are the same but for rounding have no distance of which to take the logarithm.
    distances = np.maximum(1 - near.cosines.mean(1, dtype=np.float64), 1e-6)
    ratios: np.ndarray = distances / np.median(distances)
    return ratios
