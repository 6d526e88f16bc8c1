"""The page of a run in cards: first how good it is and how sure, then where it fails, then what it was made of."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from review.charts import draw_lines, draw_reliability
from review.page import card, facts, figure, folded
from review.report.answers import Answer, Answers
from review.report.facts import PER_CLASS, Facts, OfClass, confusions
from review.report.matrix import confusion_matrix
from review.revision import Missing
from review.rounding import decimals, interval, per_cent, points
from review.thumbnails import Thumbnails
from stages.common.escape import html
from stages.evaluate.intervals import wilson

STYLE = """
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
margin-bottom: 1rem; }
.answer { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem .8rem;
min-width: 0; }
.answer h2 { font-size: .85rem; font-weight: 600; color: var(--soft); margin: 0; }
.answer b { display: block; font-size: 1.5rem; line-height: 1.3; overflow-wrap: anywhere; }
.answer b.words { font-size: 1.05rem; line-height: 1.45; }
.answer p { margin: 0; font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.track { position: relative; height: .6rem; border-radius: 3px; background: var(--line); margin: .35rem 0; }
.track i { position: absolute; top: 0; bottom: 0; background: var(--first); border-radius: 3px; }
.track u { position: absolute; top: -.15rem; bottom: -.15rem; width: 2px; background: var(--second); }
.mistake { display: grid; gap: .35rem; align-content: start; }
.mistake .like { display: flex; gap: .5rem; align-items: center; }
.mistake .like img { width: 3rem; flex: none; }
.name { font-family: ui-monospace, monospace; font-size: .8rem; overflow-wrap: anywhere; }
.classes td, .classes th { padding-right: .6rem; }
.bar { background: linear-gradient(var(--first), var(--first)) no-repeat left bottom / var(--share) 3px; }
.classes { width: 100%; } .classes + * { margin-top: .75rem; }
@media (max-width: 30rem) { .classes { font-size: .85rem; } .classes td, .classes th { padding-right: .35rem; } }
.matrix { border-collapse: separate; border-spacing: 2px; font-size: .85rem; }
.matrix td, .matrix th { border: 0; padding: .15rem .3rem; text-align: center; border-radius: 3px; }
.matrix th[scope=row] { text-align: right; } .matrix td { font-variant-numeric: tabular-nums; min-width: 1.8rem; }
.matrix th { font-weight: 500; color: var(--soft); overflow-wrap: normal; }
.strips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: .75rem; }
.strips.few { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.strips img { width: 100%; height: auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
"""
_MISTAKES = 12
_CLASSES = 20
# Of the rest, so many make half a megabyte of a page.
_MOST_CLASSES = 1000
# So many make a small table, and their images are shown larger.
_FEW = 6
_STRIPS = 60
_CURVES = {"loss": ("train_loss", "val_loss"), "accuracy": ("train_accuracy", "val_accuracy")}


class Pictures:
    """The images of a run's splits, where they are on this machine; `why` says why one is not."""

    def __init__(self, get: Callable[[str], Thumbnails]) -> None:
        self.of: dict[str, Thumbnails] = {}
        self.why: dict[str, str] = {}
        for split in ("train", "val"):
            try:
                self.of[split] = get(split)
            except Missing as missing:
                self.why[split] = str(missing)


def answers(run: Facts) -> str:
    """The questions that a person has first."""
    tiles = [
        _accuracy(run),
        _majority(run),
        _against(run),
        _claim(run),
        _data(run),
        _tile("Commit", *run.commit.split(", ")),
        _epoch(run),
    ]
    return f'<div class="answers">{"".join(tiles)}</div>'


def _tile(title: str, value: str, *lines: str, kind: str = "", markup: str = "") -> str:
    words = "words" if len(value) > 9 else ""
    below = "".join(f"<p>{html(line)}</p>" for line in lines if line)
    classes = f"{words} {kind}".strip()
    return (
        f'<section class="answer"><h2>{html(title)}</h2><b class="{classes}">{html(value)}</b>{markup}{below}</section>'
    )


def _unknown(title: str, why: str) -> str:
    return _tile(title, "not known", why)


def _accuracy(run: Facts) -> str:
    if isinstance(run.accuracy, str):
        return _unknown("Val accuracy", run.accuracy)
    low, high = run.accuracy["accuracy_low"], run.accuracy["accuracy_high"]
    left, width, tick = (100 * value for value in (low, high - low, run.accuracy["majority_accuracy"]))
    track = (
        f'<div class="track" aria-hidden="true"><i style="left:{left:.1f}%;width:max({width:.1f}%,3px)"></i>'
        f'<u style="left:{tick:.1f}%"></u></div>'
    )
    return _tile(
        "Val accuracy",
        per_cent(run.accuracy["accuracy"], low, high),
        f"95 % interval {interval(low, high)}, {run.accuracy['images']:.0f} images",
        markup=track,
    )


def _majority(run: Facts) -> str:
    title = "Against the largest class"
    if isinstance(run.accuracy, str):
        return _unknown(title, run.accuracy)
    low, high, majority = (run.accuracy[f"{name}"] for name in ("accuracy_low", "accuracy_high", "majority_accuracy"))
    said = f"naming it for every image reaches {per_cent(majority, low, high)}"
    if low > majority:
        return _tile(title, "better", said, kind="good")
    if high < majority:
        return _tile(title, "worse", said, kind="bad")
    return _tile(title, "not told apart", said, kind="warn")


def _against(run: Facts) -> str:
    if isinstance(run.against, str):
        return _tile("Against the last tag", "not compared", run.against)
    models = run.against.models
    word, kind = "not told apart", "warn"
    if models.same_answers:
        word, kind = "the same answers", ""
    elif models.significant:
        word, kind = ("better", "good") if models.difference > 0 else ("worse", "bad")
    return _tile(
        f"Against {run.against.tag}",
        word,
        f"{points(models.difference, models.low, models.high)} on {models.images} common val images, "
        f"p = {models.p_value:.2g}",
        kind=kind,
    )


def _claim(run: Facts) -> str:
    title = "Test accuracy"
    if isinstance(run.claim, str):
        return _tile(title, "not claimed", markup=folded("Why", f"<p>{html(run.claim)}</p>"))
    low, high = run.claim["accuracy_low"], run.claim["accuracy_high"]
    chosen = f"of {run.chosen}" if not isinstance(run.chosen, str) else run.chosen
    return _tile(
        title,
        per_cent(run.claim["accuracy"], low, high),
        f"95 % interval {interval(low, high)}, {run.claim['images']:.0f} images, {chosen}",
    )


def _data(run: Facts) -> str:
    if isinstance(run.counts, str):
        return _unknown("Data", run.counts)
    splits = ", ".join(f"{run.counts[f'{split}_images']:.0f} {split}" for split in ("train", "val", "test"))
    total = sum(run.counts[f"{split}_images"] for split in ("train", "val", "test"))
    return _tile(
        "Data", f"{total:,.0f} images", f"{run.counts['classes']:.0f} classes; {splits}", f"version {run.data_version}"
    )


def _epoch(run: Facts) -> str:
    if isinstance(run.epochs, str):
        return _unknown("Epoch", run.epochs)
    best, last = run.epochs
    return _tile("Epoch", f"{best} of {last}", "chosen by the val images")


def mistakes(run: Facts, pictures: Pictures) -> str:
    """The wrong answers that were most probable, with the picture, and one of the class that was named."""
    if isinstance(run.answers, str):
        return card("Mistakes", f"<p>{html(run.answers)}</p>", size="wide")
    said = run.answers
    wrong = np.flatnonzero(~said.right)
    if not len(wrong):
        return card("Mistakes", f"<p>None of {len(said)} val images.</p>", size="wide")
    shown = heapq.nsmallest(_MISTAKES, wrong.tolist(), key=lambda place: (-said.confidence[place], said.paths[place]))
    which = "The surest first" if len(shown) == len(wrong) else f"The {len(shown)} surest"
    head = (
        f'<p class="soft">{len(wrong)} of {len(said)} val images. {which}; below each, the image of the '
        "class it was taken for that the model was surest of.</p>"
    )
    if "val" not in pictures.of:
        head += f'<p class="soft">No pictures: {html(pictures.why["val"])}</p>'
    items = "".join(_mistake(said[place], said, pictures.of.get("val")) for place in shown)
    return card("Mistakes", head, f'<div class="pictures">{items}</div>', size="wide")


def _mistake(one: Answer, said: Answers, images: Thumbnails | None) -> str:
    picture, below = "", ""
    if images is not None:
        picture = _picture(images, one, f"{one.path}, which is {one.actual}", 224)
        if (like := said.surest_of(one.predicted)) is not None:
            shown = _picture(images, like, f"{like.path}, which is {like.actual}", 64)
            below = f'<div class="like">{shown}<span class="soft">surest of {html(like.actual)}</span></div>'
    named = f"{html(one.actual)} → <strong>{html(one.predicted)}</strong> {100 * one.confidence:.0f} %"
    return f'<div class="mistake">{picture}<div>{named}</div><div class="name">{html(one.path)}</div>{below}</div>'


def _picture(images: Thumbnails, one: Answer, alt: str, side: int) -> str:
    place = images.place(one.sha256)
    return "" if place is None else images.img(place, alt, side)


def per_class(run: Facts) -> str:
    """Precision, recall and F1 of each class, lowest recall first."""
    if isinstance(run.classes, str):
        return card("Classes", f"<p>{html(run.classes)}</p>")
    classes = sorted(run.classes, key=lambda one: (one.recall, one.name))
    note = '<p class="soft">Lowest recall first, with its 95 % interval.</p>'
    shown, rest = classes[:_CLASSES], classes[_CLASSES:]
    left = f'<p class="soft">And {len(rest) - _MOST_CLASSES:,} more in {PER_CLASS}.</p>' if rest[_MOST_CLASSES:] else ""
    more = folded(f"{len(rest)} more classes", _class_table(rest[:_MOST_CLASSES]) + left) if rest else ""
    size = "double tall" if len(classes) > _FEW else "double"
    return card("Classes", note, _class_table(shown), more, "<h3>All classes together</h3>", _figures(run), size=size)


def _figures(run: Facts) -> str:
    if isinstance(run.figures, str) or isinstance(run.accuracy, str):
        return f"<p>{html(run.figures)}</p>"
    digits = 2 + decimals(run.accuracy["accuracy_low"], run.accuracy["accuracy_high"])
    return facts({name.replace("_", " "): f"{value:.{digits}f}" for name, value in run.figures.items()})


def _class_table(classes: Sequence[OfClass]) -> str:
    head = "".join(
        f'<th scope="col"{kind}>{name}</th>'
        for name, kind in (
            ("class", ""),
            *((name, ' class="number"') for name in ("images", "recall", "precision", "F1")),
        )
    )
    rows = []
    for one in classes:
        ends = wilson(round(one.recall * one.images), one.images) if one.images else None
        between = f"{100 * ends.low:.0f}–{100 * ends.high:.0f}" if ends else ""
        rows.append(
            f'<tr><th scope="row">{html(one.name)}</th><td class="number">{one.images}</td>'
            + _share(one.recall, between)
            + _share(one.precision)
            + _share(one.f1)
            + "</tr>"
        )
    table = f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _share(value: float, between: str = "") -> str:
    ends = f' <span class="soft">{between}</span>' if between else ""
    return f'<td class="number bar" style="--share:{100 * value:.0f}%">{100 * value:.0f} %{ends}</td>'


def confusion(run: Facts) -> str:
    """The matrix, and the most frequent confusions in words."""
    counts = confusions(run)
    if not counts or isinstance(run.classes, str):
        return card("Confusion matrix", f"<p>{html(run.classes if counts else run.said)}</p>")
    mistakes = Counter({pair: count for pair, count in counts.items() if pair[0] != pair[1]})
    often = mistakes.most_common(10)
    rows = "".join(
        f'<tr><td class="number">{count}</td><td>{html(actual)} → {html(predicted)}</td></tr>'
        for (actual, predicted), count in often
    )
    words = f'<h3>Confused most often</h3><div class="scroll"><table>{rows}</table></div>' if rows else ""
    matrix = confusion_matrix(counts, [one.name for one in run.classes])
    return card("Confusion matrix", matrix, words, size="double" if len(run.classes) > _FEW else "")


def calibration(run: Facts) -> str:
    """Whether stated probabilities are true."""
    if isinstance(run.answers, str):
        return card("Calibration", f"<p>{html(run.answers)}</p>")
    confidence, right = run.answers.confidence, run.answers.right
    text = f"Mean stated probability {100 * confidence.mean():.0f} %, right {100 * right.mean():.0f} %. Pale bins have "
    text += "fewer than ten images."
    alt = "Accuracy by stated probability, in ten bins with 95 % intervals"
    return card("Calibration", figure(draw_reliability(confidence, right, alt=alt), text))


def training(run: Facts) -> str:
    """Loss, accuracy and learning rate by epoch."""
    if isinstance(run.curves, str):
        return card("Training", f"<p>{html(run.curves)}</p>", size="wide")
    best = None if isinstance(run.epochs, str) else run.epochs[0]
    drawn = []
    for title, names in (*_CURVES.items(), ("learning rate", ("lr",))):
        lines = {name.split("_")[0]: run.curves[name] for name in names if name in run.curves}
        if lines:
            ends = "; ".join(
                f"{name} {values[0]:.4g} at first, {values[-1]:.4g} at last" for name, values in lines.items()
            )
            drawn.append(draw_lines(lines, title=title, alt=f"{title} by epoch: {ends}", mark=best))
    note = f'<p class="soft">The dotted line is epoch {best}, which was kept.</p>' if best else ""
    return card("Training", f'<div class="charts">{"".join(drawn)}</div>', note, size="wide")


def data(run: Facts, pictures: Pictures) -> str:
    """A glance at the images that were learned from, a few of each class."""
    body = [f'<p class="soft">{_sizes(run)}</p>']
    if "train" in pictures.of:
        body.append(_strips(pictures.of["train"]))
    else:
        body.append(f'<p class="soft">No pictures: {html(pictures.why["train"])}</p>')
    return card("Data", *body, folded("What prepare found", f"<pre>{html(run.summary)}</pre>"), size="wide")


def _sizes(run: Facts) -> str:
    if isinstance(run.counts, str):
        return html(run.counts)
    width, height = run.counts["median_width"], run.counts["median_height"]
    return f"{run.counts['files']:,.0f} files, {width:.0f}×{height:.0f} pixels in the median; train images by class:"


def _strips(images: Thumbnails) -> str:
    labels, first = np.unique(images.kept.labels, return_index=True)
    each = 8 if len(labels) <= 12 else 5
    side = 96 if len(labels) <= _FEW else 64
    # In the order in which they come first.
    shown = labels[np.argsort(first)][:_STRIPS].tolist()
    strips = []
    for label in shown:
        name, places = images.kept.classes[label], np.flatnonzero(images.kept.labels == label).tolist()
        # Of a class, at equal distances: files that lie beside one another are often alike.
        chosen = [places[number * len(places) // each] for number in range(min(each, len(places)))]
        alt = f"{len(chosen)} train images of {name}"
        strips.append(figure(images.strip(chosen, alt, side), f"{name}: {len(places)}"))
    more = len(labels) - len(shown)
    rest = f'<p class="soft">And {more} classes more.</p>' if more else ""
    kind = "strips few" if len(labels) <= _FEW else "strips"
    return f'<div class="{kind}">{"".join(strips)}</div>{rest}'


def params(run: Facts) -> str:
    """What is otherwise than in the nearest recipe; then the rest."""
    if isinstance(run.recipe, str):
        return card("Params", f"<p>{html(run.recipe)}</p>")
    different = run.recipe.different
    head = f'<p class="soft">Nearest recipe: {html(run.recipe.path)}</p>'
    rows = "".join(
        f'<tr><th scope="row">{html(name)}</th><td>{_value(here)}</td><td>{_value(there)}</td></tr>'
        for name, (here, there) in different.items()
    )
    table = (
        '<div class="scroll"><table><thead><tr><th scope="col">param</th><th scope="col">here</th>'
        f'<th scope="col">recipe</th></tr></thead><tbody>{rows}</tbody></table></div>'
        if different
        else "<p>All as in the recipe.</p>"
    )
    same = {name: value for name, value in sorted(run.params.items()) if name not in different}
    return card("Params", head, table, folded(f"{len(same)} as in the recipe", facts(_shown(same))))


def machine(run: Facts) -> str:
    """How long it took, on what, with which packages."""
    body = []
    if isinstance(run.run, str):
        body.append(f"<p>{html(run.run)}</p>")
    else:
        body.append(facts(_shown({name.replace("_", " "): value for name, value in run.run.items()})))
    if isinstance(run.environment, str):
        body.append(f"<p>{html(run.environment)}</p>")
    else:
        packages = run.environment.get("packages")
        rest = {name: value for name, value in run.environment.items() if name != "packages"}
        rest |= packages if isinstance(packages, dict) else {}
        body.append(folded("Environment of training", facts(_shown(rest))))
    return card("Machine", *body)


def _shown(rows: Mapping[str, Any]) -> dict[str, str]:
    return {name: _plain(value) for name, value in rows.items()}


def _value(value: Any) -> str:
    return html(_plain(value))


def _plain(value: Any) -> str:
    return "—" if value is None else "none" if value == "" else str(value)
