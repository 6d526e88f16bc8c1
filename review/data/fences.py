"""Where a distribution ends, and outliers begin: Tukey's fences, "Exploratory Data Analysis" (1977).

Of a normal distribution, 0.35 % lie beyond the inner fence of one side (1.5 quartile ranges from the quartile), and one
in a million beyond the outer one (3). Positive figures, such as distances and sizes, are taken by their logarithm.
"""

import numpy as np

INNER, OUTER = 1.5, 3.0


def below(values: np.ndarray, ranges: float) -> float:
    """The lower fence."""
    first, third = np.quantile(values, [0.25, 0.75])
    return float(first - ranges * (third - first))


def above(values: np.ndarray, ranges: float) -> float:
    """The upper fence."""
    return -below(-values, ranges)
