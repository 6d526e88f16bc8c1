"""Figures by hand on small cases, and the interval's coverage."""

import math

import numpy as np
import pytest
from sklearn import metrics as by_sklearn

from benchmarks.coverage import covered
from stages.evaluate import metrics
from stages.evaluate.scores import score


def measured(logits: np.ndarray, labels: np.ndarray, mirrored: np.ndarray | None = None) -> dict[str, float]:
    """In two parts."""
    half = len(labels) // 2
    parts = [logits[:half], logits[half:]]
    other = None if mirrored is None else [mirrored[:half], mirrored[half:]]
    return metrics.measure(score(parts, labels, other), labels, logits.shape[1])


def test_figures_by_hand() -> None:
    """Three of four right: accuracy 0.75, Wilson's interval by its formula, loss and macro-F1 by theirs."""
    logits = np.log(np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.9, 0.1]]))
    figures = measured(logits, np.array([0, 0, 1, 1]))
    z, p, n = 1.959964, 0.75, 4
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert figures == pytest.approx(
        {
            "accuracy": 0.75,
            "accuracy_low": centre - half,
            "accuracy_high": centre + half,
            "balanced_accuracy": (1 + 1 / 2) / 2,
            "calibration_error": ((1 - 0.7) + (1 - 0.6) + (1 - 0.8) + (0.9 - 0)) / 4,
            "loss": -sum(map(math.log, (0.7, 0.6, 0.8, 0.1))) / 4,
            "macro_f1": (2 * 2 / 5 + 2 * 1 / 3) / 2,
            "majority_accuracy": 0.5,
            "images": 4,
        },
        abs=1e-6,
    )


def test_classification_figures_are_those_of_scikit_learn() -> None:
    """On random answers, with classes that are never predicted, and with ties among the logits."""
    generator = np.random.default_rng(0)
    for classes in (2, 7, 30):
        labels = np.concatenate([np.arange(classes), generator.integers(0, classes, 60)])
        logits = generator.integers(0, 9, (len(labels), classes)).astype(float)
        logits[:, -1] = -1
        predicted = logits.argmax(1)
        confusions = metrics.Confusions.of(labels, predicted, classes)
        assert (confusions.matrix == by_sklearn.confusion_matrix(labels, predicted)).all()
        expected = by_sklearn.precision_recall_fscore_support(labels, predicted, zero_division=0.0)
        for column, other in zip(confusions.per_class(), expected, strict=False):
            np.testing.assert_allclose(column, other, rtol=1e-12)
        figures = measured(logits, labels)
        assert figures["balanced_accuracy"] == pytest.approx(
            by_sklearn.balanced_accuracy_score(labels, predicted), abs=1e-6
        )
        f1 = by_sklearn.f1_score(labels, predicted, average="macro", zero_division=0.0)
        assert figures["macro_f1"] == pytest.approx(f1, abs=1e-6)


def test_top5_where_there_are_more_than_five_classes() -> None:
    """The right class is first, fifth and sixth of six."""
    logits = np.array([[6.0, 5, 4, 3, 2, 1]] * 3)
    figures = measured(logits, np.array([0, 4, 5]))
    assert figures["top5_accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert "top5_accuracy" not in measured(logits[:, :5], np.array([0, 4, 3]))


def test_mirrored_logits_are_averaged() -> None:
    """One image is right in both; two are wrong by themselves and right in the mean."""
    logits = np.array([[2.0, 0], [0, 1], [1, 0]])
    mirrored = np.array([[2.0, 0], [3, 0], [0, 5]])
    figures = measured(logits, np.array([0, 0, 1]), mirrored)
    assert figures["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert figures["tta_accuracy"] == 1


@pytest.mark.parametrize(("accuracy", "images"), [(0.6, 353), (0.9, 353), (0.99, 353), (0.8, 10_000)])
def test_the_interval_covers(accuracy: float, images: int) -> None:
    """Of 400 simulated test sets; at 95 %, fewer than 91 % would come up once in 2,000 tries."""
    assert 0.91 <= covered(accuracy, images, 400, np.random.default_rng(0)) <= 0.99
