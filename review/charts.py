"""Charts for the pages: SVG in the page's own colours and font, so that it is dark where the page is dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from review.document import thinned
from stages.common.escape import html, mathtext
from stages.evaluate.calibration import binned
from stages.evaluate.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib writes colours as they are given; these stand for variables of the page's style.
_TEXT, _SOFT, _LINE, _FIRST, _SECOND, _CARD = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_VARIABLES = {
    _TEXT: "var(--text)",
    _SOFT: "var(--soft)",
    _LINE: "var(--line)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
    _CARD: "var(--card)",
}
# Inches of 72 units; a card is about as wide on a telephone, where a text keeps its size then.
_WIDTH = 4.6
_FEW = 10
# More points than a chart is wide make a page large, and show nothing more.
_MOST_POINTS = 1000
_MOST_TICKS = 7


def draw_lines(
    lines: Mapping[str, Sequence[float]], *, title: str, alt: str, x_label: str = "epoch", mark: int | None = None
) -> str:
    """Lines over 1, 2, 3, ...: two at most, the first dashed where there are two; `mark`: an x to point out. A line of
    more than 1,000 values is drawn as means of as many as needed, which the label of x says."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(2.7)
    styles = [(_FIRST, "-")] if len(lines) == 1 else [(_SECOND, "--"), (_FIRST, "-")]
    step, drawn = thinned(lines, _MOST_POINTS)
    for (name, values), (colour, style) in zip(drawn.items(), styles, strict=True):
        # The middle of each block; the last may be shorter.
        starts = range(0, len(lines[name]), step)
        x = [1 + (start + min(start + step, len(lines[name])) - 1) / 2 for start in starts]
        marker = "o" if len(values) == 1 else None
        axes.plot(x, values, color=colour, linestyle=style, linewidth=1.8, label=mathtext(name), marker=marker)
    if mark is not None:
        axes.axvline(mark, color=_SOFT, linewidth=1, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x_label if step == 1 else f"{x_label} (means of {step})")
    axes.set_title(mathtext(title), loc="left", color=_TEXT, fontsize=12)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=_TEXT, fontsize=11)
    return _svg(figure, alt)


def draw_reliability(confidence: np.ndarray, right: np.ndarray, *, alt: str, bins: int = 10) -> str:
    """Accuracy by stated probability, in `bins` of equal width with Wilson's intervals; bins with fewer than ten images
    are pale. `confidence`: float N, of the predicted class; `right`: bool N."""
    counts, hits, _ = binned(confidence, right, bins)
    figure, axes = _axes(3.2)
    axes.plot([0, 1], [0, 1], color=_SOFT, linestyle="--", linewidth=1)
    for place in np.flatnonzero(counts).tolist():
        count, middle = int(counts[place]), (place + 0.5) / bins
        interval = wilson(int(hits[place]), count)
        few = count < _FEW
        axes.bar(middle, interval.share, width=0.9 / bins, color=_FIRST, alpha=0.25 if few else 0.8, linewidth=0)
        axes.plot([middle, middle], [interval.low, interval.high], color=_TEXT, linewidth=1, alpha=0.5 if few else 1)
    for place, count in enumerate(counts.tolist()):
        axes.text((place + 0.5) / bins, 1.02, f"{count:.0f}", ha="center", va="bottom", fontsize=9, color=_SOFT)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability", ylabel="share that is right")
    return _svg(figure, alt)


def draw_learning(
    points: Sequence[tuple[int, float, float, float]], forecast: tuple[int, float, float, float] | None, *, alt: str
) -> str:
    """Accuracy by the number of images to learn from, with 95 % intervals; the forecast dashed, its end open. Each
    point: images, accuracy, and the ends of its interval."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure, axes = _axes(2.7)
    images, accuracy, low, high = map(list, zip(*points, strict=True))
    axes.fill_between(images, low, high, color=_FIRST, alpha=0.2, linewidth=0)
    axes.plot(images, accuracy, color=_FIRST, linewidth=1.8, marker="o", markersize=4, label="measured")
    if forecast is not None:
        more, expected, least, most = forecast
        ends = [images[-1], more]
        axes.fill_between(ends, [low[-1], least], [high[-1], most], color=_SECOND, alpha=0.2, linewidth=0)
        axes.plot(ends, [accuracy[-1], expected], color=_SECOND, linewidth=1.8, linestyle="--", label="forecast")
        axes.plot(more, expected, color=_SECOND, marker="o", markersize=5, markerfacecolor=_CARD)
        axes.legend(frameon=False, labelcolor=_TEXT, fontsize=11, loc="lower right")
    axes.set_xscale("log")
    # Doublings, of which so many have room for their numbers.
    ticks = [*images, *([forecast[0]] if forecast else [])][::-1]
    ticks = ticks[:: -(-len(ticks) // _MOST_TICKS)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g} %"))
    axes.set_xlabel("images to learn from")
    return _svg(figure, alt)


def _axes(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)
    axes.tick_params(colors=_SOFT, labelsize=11, length=3)
    axes.grid(color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=_SOFT, fontsize=11)
    return figure, axes


def _svg(figure: "Figure", alt: str) -> str:
    """The figure as an element of a page. Texts stay texts, which a browser draws in its own font and a reader can
    search."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        FigureCanvasSVG(figure)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    figure.clear()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    # The background is the card's.
    text = re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0]], text)
    viewbox = re.search(r'viewBox="[^"]*"', text)
    assert viewbox is not None
    head = f'<svg {viewbox[0]} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{html(alt)}">'
    return head + re.sub(r"\s*\n\s*", " ", text[text.index(">") + 1 :].strip())
