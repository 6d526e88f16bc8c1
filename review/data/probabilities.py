"""Which class each image is likely of, by a classifier that has not seen it, nor any other of its group.

Logistic regression on features, once for each part of the images, trained on the other parts. Weak classifiers of
strong features are hard to mislead: they cannot learn a wrong label by heart.
"""

import warnings
from collections.abc import Sequence

import numpy as np

FOLDS = 5
# The inverse strength of the L2 penalty, as scikit-learn has it, for vectors of mean squared length 1. Of 1,280
# standardised features it is 0.01.
_STRENGTH = 12.0
_STEPS_MOST = 1000


def learnable(labels: np.ndarray, groups: Sequence[str], folds: int = FOLDS) -> np.ndarray:
    """Which classes, bool K, have images in at least so many groups, that each fold can be answered by a classifier
    which has learned them. An image without a group (empty) is one of its own."""
    apart = _numbered(groups)
    found = np.zeros(int(labels.max(initial=-1)) + 1, bool)
    for label in range(len(found)):
        found[label] = len(np.unique(apart[labels == label])) >= folds
    return found


def folds_of(labels: np.ndarray, groups: Sequence[str], folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The fold of each image, int64 N: each class in each alike, as far as groups allow, each group in one."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    found = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings(action="ignore"):  # of a class that not every fold has
        if any(groups):
            parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(
                labels, labels, _numbered(groups)
            )
        else:
            parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
        for number, (_, held_out) in enumerate(parts):
            found[held_out] = number
    return found


def cross_validated(
    vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray, trusted: np.ndarray | None = None
) -> np.ndarray:
    """The probability of each class for each image, float32 N×K, by classifiers that have learned the other folds, and
    of these only `trusted` images (bool N; None: all). A class of which nothing could be learned has 0."""
    found = np.zeros((len(labels), int(labels.max()) + 1), np.float32)
    for fold in range(int(folds.max()) + 1):
        held_out = folds == fold
        known = ~held_out if trusted is None else ~held_out & trusted
        found[held_out] = answers(vectors[known], labels[known], vectors[held_out], found.shape[1])
    return found


def answers(vectors: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """What a classifier that has learned vectors, N×d, and their labels says of those `asked`, M×d: the probability of
    each class, float32 M×classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = np.zeros((len(asked), classes), np.float32)
    present = np.unique(labels)
    if len(present) == 1:
        found[:, present] = 1
    elif len(asked):
        strength = _STRENGTH / max(float((vectors.astype(np.float64) ** 2).sum(1).mean()), 1e-12)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model = LogisticRegression(C=strength, max_iter=_STEPS_MOST).fit(vectors, labels)
        found[:, model.classes_] = model.predict_proba(asked)
    return found


def _numbered(groups: Sequence[str]) -> np.ndarray:
    """A number for each group, and for each image that is in none."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(group or place, len(numbers)) for place, group in enumerate(groups)], np.int64)
