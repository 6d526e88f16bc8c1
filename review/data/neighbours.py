"""The nearest neighbours of each image by the cosine of features: all pairs, by products of matrices, in blocks."""

from dataclasses import dataclass

import numpy as np

from review.data.vectors import Projection, directions, require_numbers

# How many neighbours say where an image stands.
NEIGHBOURS = 10
# Of unit vectors, so many axes keep the cosines to 0.002 (tf_efficientnet_lite0, ants and bees).
_AXES = 256
# Rows of a block, of which the products with all vectors are in memory at a time.
_ROWS = 512
# Of columns, each group is first represented by its largest product: the n largest lie in n groups at most.
_GROUP = 64
_NEVER = -2.0


@dataclass(frozen=True)
class Neighbourhood:
    """Of each of N images, the k nearest others, the nearest first. `rows`: int64 N×k, which; `cosines`: of features as
    they are, float32 N×k; `likeness`: of standardised features, in which what all images have in common is no part."""

    rows: np.ndarray
    cosines: np.ndarray
    likeness: np.ndarray


def neighbourhood(features: np.ndarray, standard: Projection, count: int = NEIGHBOURS) -> Neighbourhood:
    """Of features, float32 N×D, and how to standardise them. Which images are near is found by the features' main axes;
    cosines are of all features. UserError where a feature is not a number."""
    rows, _ = nearest(_compact(features), count)
    cosines = np.empty(rows.shape, np.float32)
    likeness = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _ROWS):
        here, there = features[start : start + _ROWS], features[rows[start : start + _ROWS]]
        cosines[start : start + _ROWS] = _products(here, there)
        likeness[start : start + _ROWS] = _products(standard.standardised(here), standard.standardised(there))
    return Neighbourhood(rows, cosines, likeness)


def _products(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The cosines of n×D and n×k×D, float32 n×k."""
    found: np.ndarray = np.clip(np.einsum("nd,nkd->nk", directions(here), directions(there)), -1, 1)
    return found


def _compact(features: np.ndarray) -> np.ndarray:
    """Vectors of length 1 at most, float32 N×_AXES, of which products are nearly the cosines of features: what an image
    has beside the main axes of all makes it less like any other."""
    number, width = features.shape
    compact = np.empty((number, min(width, _AXES)), np.float32)
    axes: np.ndarray | None = None
    if width > _AXES:
        squares = np.zeros((width, width))
        for start in range(0, number, _ROWS):
            units = directions(features[start : start + _ROWS])
            squares += units.T @ units
        axes = np.linalg.eigh(squares)[1][:, -_AXES:].astype(np.float32)
    for start in range(0, number, _ROWS):
        rows = features[start : start + _ROWS]
        require_numbers(rows, start)
        units = directions(rows)
        compact[start : start + _ROWS] = units if axes is None else units @ axes
    return compact


def nearest(units: np.ndarray, count: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of vectors of length 1, float32 N×d, the `count` nearest of `among`, M×d (None: of the vectors themselves, but
    not the same row): their rows, int64 N×count, and cosines, float32 N×count, the nearest first. Where there are
    fewer, as many as there are."""
    others = units if among is None else among
    itself = among is None
    count = min(count, len(others) - itself)
    rows = np.empty((len(units), count), np.int64)
    cosines = np.empty((len(units), count), np.float32)
    if count == 0:
        return rows, cosines
    groups = -(-len(others) // _GROUP)
    products = np.full((_ROWS, groups * _GROUP), _NEVER, np.float32)
    for start in range(0, len(units), _ROWS):
        block = units[start : start + _ROWS]
        here = products[: len(block)]
        np.matmul(block, others.T, out=here[:, : len(others)])
        if itself:
            here[np.arange(len(block)), np.arange(start, start + len(block))] = _NEVER
        best = _largest(here, groups, count)
        rows[start : start + _ROWS] = best
        cosines[start : start + _ROWS] = np.take_along_axis(here, best, 1)
    return rows, np.clip(cosines, -1, 1)


def _largest(products: np.ndarray, groups: int, count: int) -> np.ndarray:
    """The columns of the largest values of each row, the largest first, of equal ones the first column."""
    # Column c is of group c % groups, so that the largest of all groups are found by whole rows at a time.
    tops = products.reshape(len(products), _GROUP, groups).max(1)
    if count < groups:
        chosen = np.argpartition(tops, groups - count, axis=1)[:, groups - count :]
    else:
        chosen = np.broadcast_to(np.arange(groups), (len(products), groups))
    columns = (chosen[:, :, None] + groups * np.arange(_GROUP)).reshape(len(products), -1)
    columns.sort(axis=1)
    values = np.take_along_axis(products, columns, 1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(columns, order, 1)
