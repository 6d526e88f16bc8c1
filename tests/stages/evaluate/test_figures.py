"""Pictures are drawn for 2, 10 and 100 classes, small enough for Git, and the same bytes again."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.evaluate import figures
from stages.evaluate.figures import Mistake
from stages.evaluate.metrics import Confusions

# One that matplotlib would take for a formula, and one that no picture has room for.
ODD_NAMES = ["costs $5 and $x^2$", "a very long name of a class, such as teams give to defects"]


def drawn_twice(draw: Callable[[Path], None], folder: Path) -> Image.Image:
    """The picture, after checks that each must pass."""
    first, second = folder / "first.png", folder / "second.png"
    draw(first)
    draw(second)
    assert first.read_bytes() == second.read_bytes()
    assert 1000 < first.stat().st_size < 200_000
    picture = Image.open(first)
    assert max(picture.size) <= 2000
    # Neither empty nor cut off: something is drawn, and the border is clear.
    pixels = np.asarray(picture.convert("L"))
    assert pixels.min() < 128
    assert (pixels[[0, -1]] == 255).all()
    assert (pixels[:, [0, -1]] == 255).all()
    return picture


@pytest.mark.parametrize("count", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (10, 100))])
def test_classes(tmp_path: Path, count: int) -> None:
    classes = (ODD_NAMES + [f"class {number}" for number in range(count)])[:count]
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), 30)
    probabilities = generator.dirichlet(np.ones(count), len(labels))
    confusions = Confusions.of(labels, probabilities.argmax(1), count)
    recall = confusions.per_class().recall.tolist()
    drawn_twice(lambda path: figures.draw_confusion(confusions, classes, path), tmp_path)
    drawn_twice(lambda path: figures.draw_recall(recall, [30] * count, classes, path), tmp_path)
    right = probabilities.argmax(1) == labels
    drawn_twice(lambda path: figures.draw_reliability(probabilities.max(1), right, path), tmp_path)


def test_names_that_cannot_be_drawn(tmp_path: Path) -> None:
    """Another font would make another picture on each machine, so numbers stand for them; Matplotlib warns of none."""
    classes = ["bird", "猫", "กา", "طائر", "e\u0331", "птица", "<b>|x"]
    assert list(figures.drawn_names(classes).values()) == ["bird", "#1", "#2", "#3", "#4", "птица", "<b>|x"]
    labels = np.arange(len(classes)).repeat(30)
    confusions = Confusions.of(labels, labels, len(classes))
    with warnings.catch_warnings(action="error"):
        drawn_twice(lambda path: figures.draw_confusion(confusions, classes, path), tmp_path)
        drawn_twice(lambda path: figures.draw_recall([0.5] * 7, [30] * 7, classes, path), tmp_path)
        mistake = Mistake(np.zeros((8, 8, 1), np.uint8), "猫", "<b>|x", 0.9)
        drawn_twice(lambda path: figures.draw_mistakes([mistake], classes, path), tmp_path)


@pytest.mark.parametrize("mistakes", [0, 3, 100])
def test_ten_thousand_classes_are_their_most_frequent_confusions(tmp_path: Path, mistakes: int) -> None:
    """No more memory than there are pairs; that there are none is a picture, too."""
    count = 10_000
    labels = np.arange(count)
    predicted = labels.copy()
    predicted[:mistakes] += 1
    classes = [f"class {number}" for number in range(count)]
    confusions = Confusions.of(np.append(labels, 2), np.append(predicted, 7), count)
    assert confusions.most_frequent(2).images.sum() <= 2
    drawn_twice(lambda path: figures.draw_confusion(confusions, classes, path), tmp_path)


@pytest.mark.parametrize("epochs", [1, 300])
def test_curves(tmp_path: Path, epochs: int) -> None:
    names = ("lr", "train_loss", "val_loss", "train_accuracy", "val_accuracy")
    rows = [{"epoch": float(epoch), **dict.fromkeys(names, 1 / epoch)} for epoch in range(1, epochs + 1)]
    drawn_twice(lambda path: figures.draw_curves(rows, path), tmp_path)


@pytest.mark.parametrize(("count", "side", "channels"), [(0, 8, 1), (1, 8, 1), (8, 32, 3), (8, 224, 3)])
def test_mistakes(tmp_path: Path, count: int, side: int, channels: int) -> None:
    """Also of pictures that do not compress."""
    generator = np.random.default_rng(0)
    mistakes = [
        Mistake(generator.integers(0, 256, (side, side, channels), dtype=np.uint8), ODD_NAMES[0], ODD_NAMES[1], 0.987)
        for _ in range(count)
    ]
    drawn_twice(lambda path: figures.draw_mistakes(mistakes, ODD_NAMES, path), tmp_path)
