"""An own figure: the function in stages/evaluate/ that `metric` in params.yaml names."""

import math
import numbers
from typing import NamedTuple

import numpy as np

from stages.common.errors import UserError
from stages.common.extensions import Extension, load_extension


class Metric(NamedTuple):
    """A figure of probabilities, float64 N×classes, and labels, int64 N, and its name in metrics/evaluate.json."""

    name: str
    extension: Extension

    def __call__(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        value = self.extension(probabilities.copy(), labels.copy())
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
            given = f"probabilities {probabilities.shape} and labels {labels.shape}"
            raise UserError(f"{self.extension}: expected to make a finite number of {given}, got {value!r}.")
        return float(value)


def load_metric(name: str, classes: int) -> Metric:
    """The function that `metric` names, tried on a few made-up probabilities. UserError where it makes no number of
    them."""
    metric = Metric(
        name.rpartition(":")[2],
        load_extension("metric", name, "stages.evaluate", ("probabilities", "labels"), (), {}),
    )
    labels = np.arange(2 * classes) % classes
    odds = 1 + np.arange(len(labels) * classes, dtype=np.float64).reshape(-1, classes) % 7
    metric(odds / odds.sum(1, keepdims=True), labels)
    return metric
