"""What a comparison means, in words and tables."""

from collections.abc import Sequence
from typing import Any

from review import galleries
from review.album import Album
from review.chosen import Chosen
from review.comparison import Change, Diff, Seeds
from review.corrected import counted
from review.data_changes import DataChanges
from review.document import Block, Chart, Document, Section, Strong, Table, some
from review.gate import KINDS, Reason, corrected_test_images, other_splits, test_changes
from review.seeds import spread
from review.significance import LEVEL, ModelComparison, RecipeComparison
from stages.common.corrections import Correction

_SHOWN = 10
_FILES_SHOWN = 30
# Which way is better, by the end of a metric's name; of others nothing is claimed, nor of speed and memory, which
# depend on what else the machine did.
_DIRECTIONS = {"higher": ("accuracy", "f1", "recall", "precision"), "lower": ("loss", "error")}
_JUDGED_BY_ANSWERS = "evaluate accuracy"


def document_of(diff: Diff, reasons: Sequence[Reason] | None) -> Document:
    """The report, verdict first."""
    album = Album()
    sections = [
        Section("Metrics", _metrics(diff)),
        Section("More than noise?", [*_model(diff.model, "val"), *_seeds(diff.seeds), *_turned_images(diff, album)]),
        Section("Params", _changed("param", diff.params, "None changed.")),
        Section("Claims", [*_model(diff.claims, "test"), *_chosen(diff.chosen)]),
        Section("Code", _code(diff)),
        Section("Environment", _changed("what", diff.environment, "The same.")),
        Section("Data", [*_corrections(diff), *_data(diff.data), *_changed_images(diff, album)]),
        Section("Curves", _curves(diff)),
    ]
    if reasons is not None:
        sections.insert(0, Section("Gate", _gate(reasons), whole=True))
    banners = [_verdict(diff)]
    if _is_stale(diff):
        banners.append(Strong("dvc.lock is stale, so head's figures are not those of its code.", "warn"))
    if test := _test_set(diff):
        banners.append(Strong(test, "warn"))
    return Document(f"{diff.base} → {diff.head}", banners, sections)


def _verdict(diff: Diff) -> Strong:
    """Better, worse, not told apart, or not comparable, and of what kind the statement is."""
    if other := other_classes(diff):
        where = "" if isinstance(diff.model, str) else f"; {_common(diff.model, 'val')}"
        return Strong(f"Another task: {other}{where}.", "warn")
    if not isinstance(diff.seeds, str) and diff.seeds.comparison is not None:
        return Strong(_recipe_verdict(diff.seeds.comparison), _tone(diff.seeds.comparison))
    model = diff.model
    if isinstance(model, str):
        return Strong(f"Not comparable: {model}", "warn")
    figures = f"accuracy {_points(model)}"
    where = f"on {_common(model, 'val')}; this model against that model"
    if model.same_answers:
        return Strong(f"The same answers {where}.")
    if not model.significant:
        return Strong(f"No significant difference: {figures}, p = {model.p_value:.2g} {where}.")
    word = "Better" if model.difference > 0 else "Worse"
    return Strong(f"{word}: {figures}, p = {model.p_value:.2g} {where}.", _tone(model))


def _tone(comparison: ModelComparison | RecipeComparison) -> str:
    if not comparison.significant:
        return ""
    return "good" if comparison.difference > 0 else "bad"


def _test_set(diff: Diff) -> str:
    """How the test set changed, or that nobody can tell; empty where it did not."""
    if not isinstance(diff.data, str) and any(diff.data.test):
        return f"{_capital(test_changes(diff.data.test))}{corrected_test_images(diff)}."
    if inputs := other_splits(diff) if isinstance(diff.data, str) else []:
        return f"Whether the test set changed cannot be told; {', '.join(inputs)} did."
    if isinstance(diff.claims, ModelComparison) and diff.claims.unmatched:
        return f"The test set changed: the claims are compared on {_common(diff.claims, 'test')}."
    return ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def other_classes(diff: Diff) -> str:
    """How the classes of the two differ: then no figure of one is better than one of the other. Empty where not."""
    if isinstance(diff.classes, str) or diff.classes.old == diff.classes.new:
        return ""
    names = (
        f"{len(names)} in {side} ({some(names, _SHOWN)})"
        for side, names in zip(("base", "head"), diff.classes, strict=True)
    )
    return f"other classes, {', '.join(names)}"


def _is_stale(diff: Diff) -> bool:
    return any(finding.kind not in ("output", "unreadable") for finding in diff.stale)


def _recipe_verdict(recipes: RecipeComparison) -> str:
    figures = (
        f"mean accuracy {spread(recipes.old)} → {spread(recipes.new)}, {_points(recipes)}, p = {recipes.p_value:.2g}"
    )
    noise = "seeds alone; the noise of the val images is not in it"
    if recipes.images:
        noise = f"seeds and val images{_left_out(recipes.unmatched)}"
    if recipes.significant:
        return (
            f"{'Better' if recipes.difference > 0 else 'Worse'}: {figures}; this recipe against that recipe ({noise})."
        )
    return f"No significant difference: {figures}; this recipe against that recipe ({noise})."


def _gate(reasons: Sequence[Reason]) -> list[Block]:
    refused = [reason for reason in reasons if not reason.allowed]
    word = Strong("Refused.", "bad") if refused else Strong("Passed.", "good")
    if not reasons:
        return [word, f"Checked: {'; '.join(KINDS)}."]
    rows = [
        [reason.kind, reason.text, f"allowed: {reason.allowed}" if reason.allowed else "refused"] for reason in reasons
    ]
    weights = [not reason.allowed for reason in reasons]
    return [
        word,
        Table(["kind", "reason", "verdict"], rows, "those that are refused, then those that are allowed", weights),
    ]


def _changed(what: str, changes: dict[str, Change] | str, none: str) -> list[Block]:
    if isinstance(changes, str):
        return [changes]
    if not changes:
        return [none]
    rows = [[name, _value(old), _value(new)] for name, (old, new) in changes.items()]
    return [Table([what, "base", "head"], rows, "the first in the order of their file")]


def _metrics(diff: Diff) -> list[Block]:
    metrics = diff.metrics
    if isinstance(metrics, str):
        return [metrics]
    other = other_classes(diff)
    rows, weights = [], []
    for name, (old, new) in metrics.items():
        # The bounds of an interval are shown beside its value.
        if name.endswith(("_low", "_high")):
            continue
        judgement = "" if other else _judgement(name, diff)
        change = f"{_step(old, new)}{judgement}"
        rows.append([name, _with_interval(name, 0, metrics), _with_interval(name, 1, metrics), change])
        # The one that the verdict is about before all others.
        weights.append((name == _JUDGED_BY_ANSWERS, bool(judgement), _relative(old, new)))
    if not rows:
        return ["None changed."]
    shown = "the metrics that are better or worse, then those that changed most in proportion"
    blocks: list[Block] = [Table(["metric", "base", "head", "change"], rows, shown, weights)]
    if other:
        return [*blocks, f"Nothing is better or worse here: {other}."]
    tested = "the answers (accuracy), or on the seeds of both"
    return [*blocks, f"Better and worse are said where a test at {LEVEL:.0%} on {tested} finds more than noise."]


def _with_interval(name: str, side: int, metrics: dict[str, Change]) -> str:
    value = _figure(metrics[name][side])
    ends = [metrics[f"{name}_{end}"][side] for end in ("low", "high") if f"{name}_{end}" in metrics]
    return f"{value} ({_figure(ends[0])}–{_figure(ends[1])})" if len(ends) == 2 and None not in ends else value


def _step(old: Any, new: Any) -> str:
    if not all(isinstance(value, int | float) for value in (old, new)):
        return "new" if old is None else "gone" if new is None else "changed"
    return "same" if old == new else f"{new - old:+.4g}"


def _relative(old: Any, new: Any) -> float:
    """How much a value changed in proportion, 0 to 2; what is new, gone or no number, as much as can be."""
    if not all(isinstance(value, int | float) for value in (old, new)):
        return 2
    return float(abs(new - old) / (max(abs(old), abs(new)) or 1))


def _judgement(name: str, diff: Diff) -> str:
    """` better` or ` worse`, where a test tells the difference of this metric from noise."""
    words = {way for way, ends in _DIRECTIONS.items() if name.endswith(ends)}
    test = _test_of(name, diff)
    if not words or test is None or not test.significant:
        return ""
    return " better" if (test.difference > 0) == ("higher" in words) else " worse"


def _test_of(name: str, diff: Diff) -> ModelComparison | RecipeComparison | None:
    """The test that was made of a metric's difference: of accuracy, the verdict's."""
    if name != _JUDGED_BY_ANSWERS:
        return None if isinstance(diff.seeds, str) else diff.seeds.metrics.get(name)
    if not isinstance(diff.seeds, str) and diff.seeds.comparison is not None:
        return diff.seeds.comparison
    return None if isinstance(diff.model, str) else diff.model


def _model(model: ModelComparison | str, split: str) -> list[Block]:
    if isinstance(model, str):
        return [f"This model against that model: {model}"]
    lines: list[Block] = [
        f"This model against that model (noise of the {split} images): accuracy {model.old:.4f} → {model.new:.4f} on "
        f"{_common(model, split)}, {_points(model)}; the interval is Bonett and Price's. "
        f"{model.gained} from wrong to right, {model.lost} from right to wrong; "
        f"McNemar's test, mid-p: p = {model.p_value:.3g} (exact: {model.p_exact:.3g}); "
        f"{'significant' if model.significant else 'not significant'} at {LEVEL:.0%}."
    ]
    if model.moved:
        rows = [[one.label, str(one.gained), str(one.lost), f"{one.gained - one.lost:+}"] for one in model.moved]
        shown = "the classes with the largest net change"
        lines.append(Table(["class", "wrong → right", "right → wrong", "net"], rows, shown, most=_SHOWN))
    return lines


def _turned_images(diff: Diff, album: Album) -> list[Block]:
    if isinstance(diff.turned, str):
        return []
    blocks: list[Block] = [*galleries.turned(diff.turned.images, diff.head, album)]
    if diff.turned.unnamed:
        blocks.append(f"Images are called by digits of the SHA-256 of their pixels: {diff.turned.unnamed}")
    return blocks


def _changed_images(diff: Diff, album: Album) -> Sequence[Block]:
    if isinstance(diff.data, str):
        return []
    corrected = [] if isinstance(diff.corrections, str) else diff.corrections
    by_hand = {one.said.sha256: one for one in corrected if one.decides}
    return galleries.changed(diff.data.images, by_hand, diff.base, diff.head, album)


def _corrections(diff: Diff) -> list[Block]:
    """What people have decided about single images. Where there are manifests, the images are shown one by one."""
    if isinstance(diff.corrections, str):
        return [diff.corrections]
    if not diff.corrections:
        return []
    blocks: list[Block] = [f"By hand: {counted(diff.corrections)}."]
    if isinstance(diff.data, str):
        rows = [[one.said.path, _effect(one.old), _effect(one.new), one.reason] for one in diff.corrections]
        blocks.append(Table(["image", "decision was", "is", "reason"], rows, "the first by path"))
    return blocks


def _effect(correction: Correction | None) -> str:
    return correction.effect if correction else "none"


def _chosen(chosen: Chosen | str) -> list[Block]:
    # Where head claims nothing, that has been said.
    return [] if isinstance(chosen, str) else [f"The model that head claims is {chosen}."]


def _seeds(seeds: Seeds | str) -> list[Block]:
    if isinstance(seeds, str):
        return [f"This recipe against that recipe: {seeds}"]
    if seeds.comparison is None:
        return [
            f"This recipe against that recipe: needs at least two seeds of each; base has {len(seeds.old)}, head "
            f"{len(seeds.new)}. `make seeds N=5` at each of them runs more."
        ]
    return [_recipe_verdict(seeds.comparison)]


def _data(data: DataChanges | str) -> list[Block]:
    if isinstance(data, str):
        return [data]
    blocks: list[Block] = []
    if not data.of_content:
        blocks.append("The same images, classes and splits.")
    if data.added or data.removed:
        labels = sorted(data.added | data.removed)
        rows = [[label, str(data.added[label]), str(data.removed[label])] for label in labels]
        sizes = [data.added[label] + data.removed[label] for label in labels]
        blocks.append(Table(["class", "added", "removed"], rows, "the classes with the most such images", sizes))
    if data.relabelled:
        blocks.append(
            Table(
                ["relabelled from", "to", "images"],
                [[*key, str(count)] for key, count in data.relabelled.most_common()],
                "the pairs with the most images",
            )
        )
    if data.resplit:
        rows = [[*(split or "left out" for split in key), str(count)] for key, count in data.resplit.most_common()]
        blocks.append(Table(["split was", "is", "images"], rows))
    if data.renamed:
        blocks.append(f"{data.renamed} renamed, with the same content and class.")
    if data.unreadable[0] != data.unreadable[1]:
        blocks.append(f"Unreadable files: {data.unreadable[0]} → {data.unreadable[1]}.")
    return blocks


def _code(diff: Diff) -> list[Block]:
    if isinstance(diff.code, str):
        return [diff.code]
    rows = [[stage, some(paths, _FILES_SHOWN)] for stage, paths in diff.code.items()]
    blocks: list[Block] = [Table(["stage", "changed since base's run"], rows)] if rows else ["The same in both runs."]
    if diff.stale:
        blocks.append("Changed after head's run, so not in its result:")
        blocks.append(Table(["what", "how"], [[finding.kind, finding.text] for finding in diff.stale]))
    return blocks


def _curves(diff: Diff) -> list[Block]:
    if isinstance(diff.curves, str):
        return [diff.curves]
    if not diff.curves:
        return ["The same."]
    return [Chart(name, {"base": old, "head": new}) for name, (old, new) in diff.curves.items()]


def _common(model: ModelComparison, split: str) -> str:
    text = f"{model.images} common {split} images{_left_out(model.unmatched)}"
    kinds = {"in base alone": model.removed, "in head alone": model.added, "of another class": model.relabelled}
    parts = [f"{count} {kind}" for kind, count in kinds.items() if count]
    return f"{text} ({', '.join(parts)})" if parts else text


def _left_out(unmatched: int) -> str:
    return f", {unmatched} without a counterpart" if unmatched else ""


def _points(comparison: ModelComparison | RecipeComparison) -> str:
    """The difference with its interval, in percentage points."""
    difference, low, high = (100 * share for share in (comparison.difference, comparison.low, comparison.high))
    return f"{difference:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"


def _figure(value: Any) -> str:
    """A metric, by four digits."""
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
