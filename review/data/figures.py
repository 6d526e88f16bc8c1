"""The parts of the page that nobody has to decide about: where the model fails, and what to collect."""

import math
from collections.abc import Sequence

from review.charts import draw_learning
from review.data.findings import Findings, LearningCurve, Point, Slice, Wanted
from review.page import card, folded
from review.rounding import interval, per_cent
from stages.common.escape import html

# Slices and classes that are seen at once, and those in all, the others where somebody asks for them.
_SHOWN, _MOST = 20, 400


def slices(findings: Findings) -> str:
    """Accuracy by what images have in common, the worst first."""
    found = findings.slices
    if not found:
        return card(
            "Where the model fails", "<p>No slices: nothing that enough images have in common.</p>", size="wide"
        )
    worse = [one for one in found if one.is_worse]
    low = math.floor(10 * min(one.low for one in found[:_MOST])) / 10
    classes = [one for one in found if one.by == "class"]
    whole = sum(one.right for one in classes) / max(1, sum(one.images for one in classes)) if classes else None
    number = len(worse) or "None"
    head = (
        f"<p>{number} of {len(found):,} slices {'is' if len(worse) == 1 else 'are'} worse than the rest by more than "
        f"chance, after correction for their number. Answered by {html(findings.answered_by)}.</p>"
        f'<p class="soft">95 % intervals, {100 * low:.0f} to 100 %'
        + ("; the line is the accuracy of all" if whole is not None else "")
        + ".</p>"
    )
    shown, rest = found[:_SHOWN], found[_SHOWN:_MOST]
    more = folded(f"{len(rest):,} more slices", _slice_table(rest, low, whole)) if rest else ""
    if len(found) > _MOST:
        more += f'<p class="soft">And {len(found) - _MOST:,} more.</p>'
    return card("Where the model fails", head, _slice_table(shown, low, whole), more, size="wide")


def _slice_table(found: Sequence[Slice], low: float, whole: float | None) -> str:
    rows = "".join(_slice(one, low, whole) for one in found)
    head = '<thead><tr><th scope="col">slice</th><th scope="col">accuracy</th></tr></thead>'
    return f'<table class="slices">{head}<tbody>{rows}</tbody></table>'


def _slice(one: Slice, low: float, whole: float | None) -> str:
    def place(share: float) -> float:
        return max(0.0, 100 * (share - low) / (1 - low))

    left, width = place(one.low), place(one.high) - place(one.low)
    line = "" if whole is None else f'<u style="left:{place(whole):.1f}%"></u>'
    verdict = f' <strong class="bad">worse, p = {one.p_value:.2g}</strong>' if one.is_worse else ""
    return (
        f'<tr{" class=worse" if one.is_worse else ""}><th scope="row"><span class="soft">{html(one.by)}</span> '
        f'{html(one.value)}<br><span class="soft">{one.images:,} images</span></th>'
        f"<td><b>{per_cent(one.right / one.images, one.low, one.high)}</b> "
        f'<span class="soft">{interval(one.low, one.high)}</span>{verdict}'
        f'<span class="track" aria-hidden="true"><i style="left:{left:.1f}%;width:{width:.1f}%"></i>{line}</span>'
        "</td></tr>"
    )


def more_images(findings: Findings) -> str:
    """Whether more images would help, and of which classes."""
    parts = f'<div class="more">{_curve(findings.curve)}{_wanted(findings.wanted)}</div>'
    return card("Would more images help", parts, size="wide")


def expected(curve: LearningCurve) -> str:
    """The learning curve in a sentence."""
    if not curve.points:
        return f"Not known: {curve.why_not}"
    last = curve.points[-1]
    now = f"{_accuracy(last)} with {last.images:,} images"
    if curve.forecast is None:
        return f"{now}; no forecast: {curve.why_not}"
    return f"{now}; {_accuracy(curve.forecast)} are to be expected of {curve.forecast.images:,} of the same kind"


def _accuracy(point: Point) -> str:
    return f"{per_cent(point.accuracy, point.low, point.high)} ({interval(point.low, point.high)})"


def _curve(curve: LearningCurve) -> str:
    said = expected(curve)
    if not curve.points:
        return f"<p>{html(said)}</p>"
    chart = draw_learning(curve.points, curve.forecast, alt=f"Accuracy by the number of images: {said}")
    return f'<div class="curve">{chart}<p>{html(said)}.</p></div>'


def _wanted(wanted: Sequence[Wanted]) -> str:
    if not wanted:
        return ""
    rows = [
        f'<tr><th scope="row">{html(one.label)}</th><td class="number">{one.images:,}</td>'
        f'<td class="number">{100 * one.recall:.0f} %</td><td class="number">'
        f"{'—' if one.expected is None else f'{100 * one.expected:.0f} %'}</td></tr>"
        for one in wanted[:_MOST]
    ]
    head = (
        '<thead><tr><th scope="col">class</th><th scope="col" class="number">images</th>'
        '<th scope="col" class="number">recall</th><th scope="col" class="number">of twice as many</th></tr></thead>'
    )

    def table(some: Sequence[str]) -> str:
        return f'<div class="scroll"><table>{head}<tbody>{"".join(some)}</tbody></table></div>'

    rest = rows[_SHOWN:]
    return (
        "<div><h3>Collect these classes first</h3>"
        + table(rows[:_SHOWN])
        + (folded(f"{len(rest):,} more classes", table(rest)) if rest else "")
        + (f'<p class="soft">And {len(wanted) - _MOST:,} more.</p>' if len(wanted) > _MOST else "")
        + "</div>"
    )
