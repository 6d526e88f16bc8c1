"""Features as a search among them needs them: standardised, and projected to fewer dimensions."""

from dataclasses import dataclass

import numpy as np

from stages.common.errors import UserError

# Of a network's 1,280 or 2,048 features, so many principal components tell classes apart nearly as well as all do, in a
# fifth of the time.
DIMENSIONS = 256
# Rows at a time, so that no second copy of all features is made.
_ROWS = 4096
# A feature that varies by less, relative to its size, is the same everywhere but for rounding.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Projection:
    """Standardise features by `mean` and `scale`, D each, then turn them by `axes`, D×d."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    def of(self, features: np.ndarray) -> np.ndarray:
        """Features N×D, a row each → float32 N×d. UserError where they are not numbers."""
        projected = np.empty((len(features), self.axes.shape[1]), np.float32)
        for start in range(0, len(features), _ROWS):
            rows = features[start : start + _ROWS]
            require_numbers(rows, start)
            projected[start : start + _ROWS] = self.standardised(rows) @ self.axes
        return projected

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        """Features …×D → float32 …×D."""
        standard: np.ndarray = ((rows - self.mean) / self.scale).astype(np.float32)
        return standard


def fit(features: np.ndarray, dimensions: int = DIMENSIONS) -> Projection:
    """The principal components of standardised features, float N×D. With at least as many dimensions as rows or
    features, distances stay as they were. UserError where a feature is not a number."""
    number, width = features.shape
    total, squares = np.zeros(width), np.zeros(width)
    for start in range(0, number, _ROWS):
        rows = features[start : start + _ROWS]
        require_numbers(rows, start)
        total += rows.sum(0, dtype=np.float64)
    mean = total / number
    for start in range(0, number, _ROWS):
        squares += ((features[start : start + _ROWS] - mean) ** 2).sum(0)
    deviation = np.sqrt(squares / number)
    scale = np.where(deviation > _CONSTANT * np.maximum(np.abs(mean), _CONSTANT), deviation, np.inf)
    whole = Projection(mean, scale, np.eye(0, dtype=np.float32))
    if number < width:
        axes = _axes_of_few(whole.standardised(features))
    else:
        products = np.zeros((width, width))
        for start in range(0, number, _ROWS):
            rows = whole.standardised(features[start : start + _ROWS])
            products += rows.T @ rows
        axes = np.linalg.eigh(products)[1][:, ::-1]
    return Projection(mean, scale, np.ascontiguousarray(axes[:, :dimensions], dtype=np.float32))


def _axes_of_few(rows: np.ndarray) -> np.ndarray:
    """Principal axes of fewer rows than features, from the products of rows."""
    rows = rows.astype(np.float64)
    squares, turned = np.linalg.eigh(rows @ rows.T)
    present = squares > 1e-9 * max(squares[-1], 1.0)
    axes: np.ndarray = (rows.T @ turned[:, present] / np.sqrt(squares[present]))[:, ::-1]
    # Where all rows are the same there is none, and classifiers want one.
    return axes if axes.shape[1] else np.zeros((rows.shape[1], 1))


def require_numbers(rows: np.ndarray, start: int = 0) -> None:
    """UserError where a feature is not a number, or infinite; `start`: which row is the first."""
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise UserError(
            f"features: not numbers in row {start + int(bad[0]) + 1:,}; expected finite ones. The weights or the model "
            "do not suit these images, or the file is damaged: delete .dvc/tmp/look and run `make look` again, or "
            "choose other weights."
        )


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors …×d of length 1, so that products are cosines; 0 stays 0."""
    # By their largest part first: squares of float32 end at 10^38.
    largest = np.abs(vectors).max(-1, keepdims=True, initial=0)
    scaled = vectors / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(scaled, axis=-1, keepdims=True)
    unit: np.ndarray = scaled / np.where(lengths > 0, lengths, 1)
    return unit
