"""Whether two samples come from one distribution: permutation tests on counts, and Holm's correction for several.

The pooled values fall into cells. If both samples come from one distribution, the first one's counts, given what is in
each cell in all, are those of a draw without replacement: multivariate hypergeometric. So a p value needs no expected
counts of five or more, as the χ² distribution does, and no values without ties, as Kolmogorov's does, which calls ties
too seldom: a network's confidences are often 1.0000. Fisher, "The Design of Experiments" (1935); the count of draws as
in Phipson, Smyth, "Permutation P-values should never be zero" (2010). Of draws as far from the mean as what was
observed, half counts (mid-p), as in the review's test of two models.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 9_999
# More cells make the distance of two distributions finer than anybody needs, and the test slower.
_MOST_CELLS = 400
# Of draws at a time, in counts.
_AT_ONCE = 4_000_000
_SAME = 1e-9

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Tested(NamedTuple):
    """How far apart two samples are, and how often chance alone takes them so far."""

    distance: float
    p_value: float


def chi_square(first: Sequence[int], second: Sequence[int], seed: int = 0, draws: int = DRAWS) -> Tested:
    """Compare how many of two samples fall into cells without order, by Pearson's χ² (1900), which is the distance."""
    counts = np.array([first, second], dtype=np.int64)
    return _tested(_pearson, counts[:, counts.sum(0) > 0], seed, draws)


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Tested:
    """Compare two samples of numbers by Kolmogorov and Smirnov's D (1939), the largest distance of their cumulative
    shares. Of more than 400 different values, neighbours share a cell, so D may be less, by what a cell has of a sample
    at most."""
    cells, ends = _cells(np.concatenate([first, second]))
    parts = cells[: len(first)], cells[len(first) :]
    counts = np.array([np.bincount(part, minlength=ends) for part in parts])
    return _tested(_smirnov, counts, seed, draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, corrected so that in `level` of all cases at most, one or more of them is below
    `level` by chance. Holm, "A simple sequentially rejective multiple test procedure" (1979)."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def _tested(distance: Distance, counts: np.ndarray, seed: int, draws: int) -> Tested:
    """`counts`: int64 2×cells, none of which is empty in both samples."""
    totals = counts.sum(0)
    if len(totals) == 1:
        return Tested(0.0, 1.0)  # the same value everywhere
    observed = float(distance(counts[:1], totals)[0])
    generator = np.random.default_rng(seed)
    size = int(counts[0].sum())
    further = equal = 0
    for part in _parts(draws, len(totals)):
        drawn = generator.multivariate_hypergeometric(totals, size, size=part, method="marginals")
        distances = distance(drawn, totals)
        near = np.abs(distances - observed) <= _SAME * max(1.0, observed)
        equal += int(near.sum())
        further += int((distances > observed)[~near].sum())
    return Tested(observed, (further + (equal + 1) / 2) / (draws + 1))


def _parts(draws: int, cells: int) -> list[int]:
    most = max(1, _AT_ONCE // cells)
    return [min(most, draws - start) for start in range(0, draws, most)]


def _pearson(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Of the first sample's counts, draws×cells, and those of both, the χ² of each draw."""
    both, size = int(totals.sum()), int(counts[0].sum())
    apart = counts - totals * (size / both)
    distances: np.ndarray = (apart * apart / totals).sum(1) * (both * both / (size * (both - size)))
    return distances


def _smirnov(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The same for D, from whole numbers, so that equal distances are equal."""
    both, size = int(totals.sum()), int(counts[0].sum())
    apart = np.abs(np.cumsum(counts, axis=1) * both - np.cumsum(totals) * size).max(1)
    distances: np.ndarray = apart / (size * (both - size))
    return distances


def _cells(pooled: np.ndarray) -> tuple[np.ndarray, int]:
    """The cell of each value, and how many cells there are: one for each different value, or else, neighbours
    together, with about as many values in each. It depends on the pooled values alone, so the test stays exact."""
    _, of_value, counts = np.unique(pooled, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    grid = before * _MOST_CELLS // len(pooled) if len(counts) > _MOST_CELLS else np.arange(len(counts))
    _, cell_of = np.unique(grid, return_inverse=True)
    return cell_of[of_value], int(cell_of[-1]) + 1
