"""Pictures of a result, for DVC's plots and editors: PNG, the same bytes for the same figures.

Each is readable for two classes and for a hundred; what would not fit is chosen by a rule that the title states.
"""

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from stages.common.escape import mathtext
from stages.common.files import replacing
from stages.evaluate.calibration import binned
from stages.evaluate.metrics import Confusions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of more classes, names no longer fit beside a matrix.
_NAMED_CLASSES = 40
# Of more, a square of a matrix would be smaller than a pixel.
_SQUARES = 700
_LONGEST_NAME = 24
_BLUE, _ORANGE = "#3572b0", "#c8641e"


class Mistake(NamedTuple):
    """An image, uint8 H×W×C, its class, the predicted one, and the probability that the model gave that."""

    image: np.ndarray
    actual: str
    predicted: str
    probability: float


def drawn_names(classes: Sequence[str]) -> dict[str, str]:
    """What stands for each class in a picture: its name; or its number in plots/per_class.csv, from 0, as #3,
    where Matplotlib's own font lacks a character of it, or it is written from right to left or with combining marks,
    which Matplotlib does not lay out. A font of the machine would make the picture another one on each machine."""
    glyphs = _glyphs()
    return {
        name: name if glyphs.issuperset(map(ord, name)) and not _needs_layout(name) else f"#{number}"
        for number, name in enumerate(classes)
    }


@functools.cache
def _glyphs() -> frozenset[int]:
    """The code points that Matplotlib's own font has."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf").get_charmap())


def _needs_layout(name: str) -> bool:
    return any(
        unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.combining(character) for character in name
    )


def draw_curves(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Loss, accuracy and learning rate by epoch; `rows` as in plots/curves.csv."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6, 7)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) == 1 else None
    for number, (title, names) in enumerate(
        {
            "loss": ("train_loss", "val_loss"),
            "accuracy": ("train_accuracy", "val_accuracy"),
            "learning rate": ("lr",),
        }.items(),
        1,
    ):
        axes = figure.add_subplot(3, 1, number)
        for name, colour in zip(names, (_BLUE, _ORANGE), strict=False):
            axes.plot(
                epochs, [row[name] for row in rows], color=colour, label=name.removesuffix("_" + title), marker=marker
            )
        axes.set(ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    axes.set(xlabel="epoch")
    _save(figure, path)


def draw_confusion(confusions: Confusions, classes: Sequence[str], path: Path) -> None:
    """Counts, actual classes down and predicted ones across; the colour is the share of the actual class.

    More than 40 classes are numbered as in plots/per_class.csv, from 0, and without counts. Of more than 700, the 40
    most frequent confusions are drawn in place of the matrix.
    """
    if len(classes) > _SQUARES:
        _draw_most_frequent(confusions, classes, path)
        return
    matrix = confusions.matrix
    side = 2.5 + 0.45 * len(classes) if len(classes) <= _NAMED_CLASSES else 10
    figure = _figure(side, side)
    axes = figure.add_subplot()
    axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Val images")
    if len(classes) <= _NAMED_CLASSES:
        names = [_short(name) for name in drawn_names(classes).values()]
        axes.set_xticks(range(len(classes)), names, rotation=90)
        axes.set_yticks(range(len(classes)), names)
        for row, column in zip(*np.nonzero(matrix), strict=True):
            share = matrix[row, column] / matrix[row].sum()
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                fontsize="small",
                color="white" if share > 0.5 else "black",
            )
    _save(figure, path)


def _draw_most_frequent(confusions: Confusions, classes: Sequence[str], path: Path) -> None:
    shown = confusions.most_frequent(_NAMED_CLASSES)
    names = drawn_names(classes)
    actual, predicted = ([_short(names[classes[label]]) for label in labels.tolist()] for labels in shown[:2])
    figure = _figure(8, 1 + 0.24 * max(len(actual), 1))
    axes = figure.add_subplot()
    axes.barh(range(len(actual)), shown.images, color=_BLUE)
    axes.set_yticks(range(len(actual)), [f"{one} → {other}" for one, other in zip(actual, predicted, strict=True)])
    wrong = confusions.actual != confusions.predicted
    axes.set(
        xlabel="images",
        title=f"Most frequent confusions (val images): actual → predicted\n{len(actual)} of {wrong.sum():,} pairs, "
        f"{shown.images.sum():,} of {confusions.images[wrong].sum():,} mistakes",
    )
    axes.invert_yaxis()
    _save(figure, path)


def draw_recall(recall: Sequence[float], images: Sequence[int], classes: Sequence[str], path: Path) -> None:
    """The share of each class's images that were recognised, lowest on top; of more than 40, the 40 lowest."""
    order = np.argsort(recall, kind="stable")[:_NAMED_CLASSES]
    names = [_short(name) for name in drawn_names(classes).values()]
    figure = _figure(6, 1 + 0.24 * len(order))
    axes = figure.add_subplot()
    axes.barh(range(len(order)), [recall[index] for index in order], color=_BLUE)
    axes.set_yticks(range(len(order)), [f"{names[index]} ({images[index]})" for index in order])
    for place, index in enumerate(order):
        inside = recall[index] > 0.15
        axes.text(
            recall[index] + (-0.01 if inside else 0.01),
            place,
            f"{recall[index]:.2f}",
            ha="right" if inside else "left",
            va="center",
            fontsize="small",
            color="white" if inside else "black",
        )
    which = f"\nthe {len(order)} lowest of {len(classes)} classes" if len(order) < len(classes) else ""
    axes.set(xlim=(0, 1), xlabel="recall", title=f"Recall per class (val images){which}")
    axes.invert_yaxis()
    _save(figure, path)


def draw_reliability(confidence: np.ndarray, right: np.ndarray, path: Path, bins: int = 10) -> None:
    """Accuracy by stated confidence, in `bins` of equal width, over the number of images in each.

    `confidence`: the largest probability of each image, float N; `right`: whether it is that of its class, bool N.
    """
    counts, hits, _ = binned(confidence, right, bins)
    accuracy = hits / np.maximum(counts, 1)
    middles = (np.arange(bins) + 0.5) / bins
    figure = _figure(5, 5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="grey", linestyle="--", label="what is said is what happens")
    upper.bar(middles, accuracy, width=0.9 / bins, color=_BLUE, label="accuracy")
    upper.set(ylim=(0, 1), ylabel="accuracy (val images)")
    figure.legend(loc="outside upper center", ncols=2)
    lower.bar(middles, counts, width=0.9 / bins, color=_ORANGE)
    lower.set(xlim=(0, 1), xlabel="probability of the predicted class", ylabel="images")
    _save(figure, path)


def draw_mistakes(mistakes: Sequence[Mistake], classes: Sequence[str], path: Path) -> None:
    """The mistakes in the given order, each with actual → predicted and the probability."""
    names = drawn_names(classes)
    columns = 4
    rows = max(1, -(-len(mistakes) // columns))
    figure = _figure(1.9 * columns, 0.4 + 1.9 * rows, dpi=72)
    figure.suptitle("Most confident mistakes: actual → predicted" if mistakes else "No mistake on the val images")
    for number, mistake in enumerate(mistakes, 1):
        axes = figure.add_subplot(rows, columns, number)
        _show(axes, mistake, names)
    _save(figure, path)
    # In 128 colours, photographs take half the space, and Git keeps every version.
    with Image.open(path) as picture:
        smaller = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    with replacing(path) as temporary:
        smaller.save(temporary, format="png", optimize=True)


def _show(axes: "Axes", mistake: Mistake, names: Mapping[str, str]) -> None:
    grey = mistake.image.shape[2] == 1
    axes.imshow(mistake.image[..., 0] if grey else mistake.image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set_title(
        f"{_short(names[mistake.actual], 14)} →\n{_short(names[mistake.predicted], 14)} {mistake.probability:.2f}",
        fontsize=9,
    )
    axes.set_axis_off()


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return mathtext(name if len(name) <= longest else name[: longest - 1] + "…")


def _figure(width: float, height: float, dpi: int = 90) -> "Figure":
    """A figure of so many inches that no window system is asked to show."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    # Without the writing library's version in it, the file's bytes are those of the picture.
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
