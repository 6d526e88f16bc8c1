"""The facts of two revisions: everything that differs, and whether one model answers better than the other."""

import contextlib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from review import claim, exported, seeds
from review.chosen import Chosen, chosen_from
from review.corrected import Corrected, compare_corrections, corrections_of
from review.data_changes import DataChanges, SplitChanges, compare_manifests
from review.freshness import ENVIRONMENT as ENVIRONMENT
from review.freshness import Finding, findings
from review.lock import hashes
from review.revision import MANIFEST, WORKSPACE, Malformed, Missing, Revision
from review.significance import ModelComparison, Prediction, RecipeComparison, compare_models, compare_recipes
from stages.common.weight_names import why_no_weights
from stages.evaluate.answers import MOST_IN_GIT

ANSWERS = "plots/confusion.csv"
CURVES = "plots/curves.csv"
_ANSWERS_COLUMNS = ("image", "actual", "predicted")
_CURVES = ("val_accuracy", "val_loss", "train_loss", "lr")
_MOST_EPOCHS = 10_000
_IMAGE = re.compile("[0-9a-f]{16,64}")

Found = TypeVar("Found")
Change = tuple[Any, Any]


class Seeds(NamedTuple):
    """The accuracies of each side's seeds, and, where both have two or more, their comparison. `metrics`: Welch's test
    of each metric, by its name, on the seeds alone."""

    old: list[float]
    new: list[float]
    comparison: RecipeComparison | None
    metrics: dict[str, RecipeComparison]


class TurnedImage(NamedTuple):
    """An image of the class `actual` that one of two models names right, and the other wrong: digits of the SHA-256 of
    its pixels, and its path, empty where it is not known."""

    image: str
    path: str
    actual: str
    old: str
    new: str


class Turned(NamedTuple):
    """The images that a model newly names right or wrong, sorted by their digests, an order that says nothing of them.
    `unnamed`: why their paths are not known, empty where they are."""

    images: list[TurnedImage]
    unnamed: str


class Classes(NamedTuple):
    """What the two models tell apart."""

    old: list[str]
    new: list[str]


@dataclass(frozen=True)
class Diff:
    """What differs between `base` and `head`; a part that could not be read is a text that says why. `model` is told by
    the val images, and `turned` are those that the model newly names right or wrong; `claims` by the test images, where
    both revisions have a claim of their model. `chosen`: from how many runs the model was that head claims.
    `corrections`: the images about which people have decided otherwise. `malformed`: what of `head` is there, and is
    not what it should be."""

    base: Revision
    head: Revision
    classes: Classes | str
    params: dict[str, Change] | str
    metrics: dict[str, Change] | str
    model: ModelComparison | str
    turned: Turned | str
    seeds: Seeds | str
    claims: ModelComparison | str
    chosen: Chosen | str
    data: DataChanges | str
    corrections: list[Corrected] | str
    code: dict[str, list[str]] | str
    environment: dict[str, Change] | str
    curves: dict[str, tuple[list[float], list[float]]] | str
    stale: list[Finding]
    malformed: list[str]


def compare(base: Revision, head: Revision) -> Diff:
    """Collect everything; nothing that is missing stops the rest."""
    said = or_why(lambda: (predictions(base), predictions(head)))
    parts: dict[str, Any] = {
        "classes": said if isinstance(said, str) else Classes(*map(_classes, said)),
        "params": or_why(lambda: _changes(_params(base), _params(head))),
        "metrics": or_why(lambda: _changes(_metrics(base), _metrics(head), all_of="accuracy")),
        "model": said if isinstance(said, str) else or_why(lambda: _models(*said, "val")),
        "turned": said if isinstance(said, str) else _turned(*said, head),
        "seeds": or_why(lambda: _seeds(base, head)),
        "claims": or_why(lambda: _claims(base, head)),
        "chosen": or_why(lambda: _chosen(head)),
        "data": or_why(lambda: compare_data(base, head)),
        "corrections": or_why(lambda: compare_corrections(base, head)),
        "code": or_why(lambda: changed_code(base, head)),
        "environment": or_why(lambda: _changes(_environment(base), _environment(head))),
        "curves": or_why(lambda: _curves(base, head)),
    }
    unread = {name for name, part in parts.items() if isinstance(part, str)}
    return Diff(base=base, head=head, **parts, stale=_stale(head), malformed=_malformed(head, unread))


def _params(revision: Revision) -> dict[str, Any]:
    """Its params, and of the pretrained weights that they name, licence and source. Raises Missing."""
    params = dict(revision.params)
    name = params.get("weights")
    if isinstance(name, str) and name and not why_no_weights(name):
        try:
            origin = revision.json(f"weights/{name}.json")
        except Missing as missing:
            return params | {"weights (licence)": str(missing)}
        params |= {f"weights ({key})": origin.get(key) for key in ("licence", "source")}
    return params


def compare_data(base: Revision, head: Revision) -> DataChanges:
    """What differs between the images of two revisions. Raises Missing."""
    old, new = (hashes(revision.lock, "outs").get("prepared") for revision in (base, head))
    if old == new:
        return DataChanges(Counter(), Counter(), Counter(), Counter(), 0, (0, 0), SplitChanges(0, 0, 0), [])
    return compare_manifests(base.manifest, head.manifest)


def changed_code(base: Revision, head: Revision) -> dict[str, list[str]]:
    """Of each stage, the modules in which the code of the two runs differs. Raises Missing.

    dvc.lock tells in which of its folders; the files are those that differ between the revisions.
    """
    changed: dict[str, list[str]] = {}
    names = [*head.lock["stages"], *(name for name in base.lock["stages"] if name not in head.lock["stages"])]
    for name in names:
        old, new = (hashes({"stages": {name: side.lock["stages"].get(name, {})}}, "deps") for side in (base, head))
        for path in sorted(old.keys() | new.keys()):
            if path.startswith("stages") and old.get(path) != new.get(path):
                before, after = base.modules(path), head.modules(path)
                files = [file for file in sorted(before.keys() | after.keys()) if before.get(file) != after.get(file)]
                changed.setdefault(name, []).extend([f"{path}/{file}" for file in files] or [path])
    return changed


def predictions(revision: Revision) -> dict[str, Prediction]:
    """What the model said of each val image, by the first digits of the SHA-256 of its pixels; from Git. Raises
    Missing."""
    seeds.require_val(revision)
    return answers(revision, ANSWERS)


def claimed_predictions(revision: Revision) -> dict[str, Prediction]:
    """What the model said of each test image, where that is claimed of it. Raises Missing."""
    claim.fresh_lock(revision)
    return answers(revision, claim.ANSWERS)


def answers(revision: Revision, path: str) -> dict[str, Prediction]:
    """The same from the table `path`, of whatever split and model it is. Raises Missing."""
    remedy = f"`{'make claim' if path == claim.ANSWERS else 'dvc repro --force evaluate'}` makes it anew."
    found: dict[str, Prediction] = {}
    # A million images have thousands of pairs of classes.
    pairs: dict[tuple[str, str], Prediction] = {}
    for image, *pair in revision.values(path, _ANSWERS_COLUMNS):
        if not _IMAGE.fullmatch(image) or image in found:
            wrong = "is there twice" if image in found else "expected digits of a SHA-256"
            raise Malformed(f"{path}: in {revision}, image {image!r}: {wrong}. {remedy}")
        actual, predicted = pair
        prediction = pairs.get((actual, predicted))
        if prediction is None:
            prediction = pairs[actual, predicted] = Prediction(actual, predicted)
        found[image] = prediction
    if not found:
        raise Malformed(f"{path}: no rows in {revision}. {remedy}")
    return found


def agrees(stated: float, images: float, accuracy: float, answers: int) -> bool:
    """Whether the accuracy that figures state of `images` can be that of the answers beside them: the same, by its six
    digits; or, where the answers are a sample, no farther away than five standard errors of one."""
    if images > answers == MOST_IN_GIT:
        return abs(stated - accuracy) <= 5 * math.sqrt(accuracy * (1 - accuracy) / answers) + 1 / answers
    return images == answers and abs(stated - accuracy) <= 1e-6


def or_why(get: Callable[[], Found]) -> Found | str:
    """What `get` returns, or, where something is missing, the text that says so."""
    try:
        return get()
    except Missing as missing:
        return str(missing)


def _changes(old: dict[str, Any], new: dict[str, Any], all_of: str = "") -> dict[str, Change]:
    """Names whose values differ, and those that end with `all_of` in any case."""
    names = [*new, *(name for name in old if name not in new)]
    return {
        name: (old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name) or (all_of and name.endswith(f" {all_of}"))
    }


def _environment(revision: Revision) -> dict[str, Any]:
    """What the run was made with, and the pins that decide its numbers."""
    record = revision.json(ENVIRONMENT)
    packages = record.get("packages", {})
    if not isinstance(packages, dict):
        raise Malformed(f"{ENVIRONMENT}: packages: expected names with versions in {revision}, got {packages!r}.")
    found: dict[str, Any] = {name: value for name, value in record.items() if name != "packages"} | packages
    for stage, content in revision.lock["stages"].items():
        for pins in content.get("params", {}).get("pyproject.toml", {}).values():
            found[f"pins of {stage}"] = ", ".join(map(str, pins)) if isinstance(pins, list) else str(pins)
    return found


def _metrics(revision: Revision) -> dict[str, Any]:
    """`file name` → value; evaluate's first, then train's. A file that is not in metrics/ has its whole path. Left out
    are figures of another split than val: they are no metrics of the same name. Raises Missing."""
    metrics = dict(revision.metrics)
    with contextlib.suppress(Missing):
        if not seeds.measures_val(revision.lock):
            metrics.pop(seeds.METRICS, None)
    order = {seeds.METRICS: 0, "metrics/train.json": 1}
    files = sorted(metrics, key=lambda file: (order.get(file, 2), file))
    return {
        f"{file.removeprefix('metrics/').removesuffix('.json')} {name}": value
        for file in files
        for name, value in metrics[file].items()
        if not isinstance(value, dict)
    }


def _classes(said: dict[str, Prediction]) -> list[str]:
    return sorted({answer.actual for answer in said.values()})


def _models(base: dict[str, Prediction], head: dict[str, Prediction], split: str) -> ModelComparison:
    comparison = compare_models(base, head)
    if comparison is None:
        raise Missing(f"the two {split} splits have no image in common; nothing tells which model is better.")
    return comparison


def _turned(before: dict[str, Prediction], after: dict[str, Prediction], head: Revision) -> Turned:
    both = ((image, before[image], after[image]) for image in sorted(before.keys() & after.keys()))
    found = [one for one in both if one[1].actual == one[2].actual and one[1].right != one[2].right]
    paths: dict[str, str] | str = or_why(lambda: _paths(head, {image[:16] for image, *_ in found})) if found else {}
    known = {} if isinstance(paths, str) else paths
    return Turned(
        [
            TurnedImage(image, known.get(image[:16], ""), new.actual, old.predicted, new.predicted)
            for image, old, new in found
        ],
        paths if isinstance(paths, str) else "",
    )


def _paths(head: Revision, images: Set[str]) -> dict[str, str]:
    """The paths of images by 16 digits of their SHA-256. From the working tree's manifest, where evaluate had the same
    at `head`: to open DVC takes as long as all the rest of a comparison of two commits. Raises Missing."""
    recorded = hashes(head.lock, "deps").get(MANIFEST)
    here = Revision(WORKSPACE, None, ask_remote=False)
    with contextlib.suppress(Missing):
        if Path(MANIFEST).is_file():
            with here.opened(MANIFEST) as stream:
                is_same = hashlib.file_digest(stream, "md5").hexdigest() == recorded
            if is_same:
                return here.manifest.paths_of(images)
    return head.manifest.paths_of(images)


def _claims(base: Revision, head: Revision) -> ModelComparison:
    try:
        return _models(claimed_predictions(base), claimed_predictions(head), "test")
    except Malformed:
        raise
    except Missing:
        if base.claim_lock is None and head.claim_lock is None:
            raise Missing("no test accuracy is claimed in either.") from None
        raise Missing(
            f"not both have a claim of their model. Test accuracy of base: {claim.said(base)}; of head: "
            f"{claim.said(head)}"
        ) from None


def _chosen(head: Revision) -> Chosen:
    claim.fresh_lock(head)
    return chosen_from(head)


def _seeds(base: Revision, head: Revision) -> Seeds:
    if seeds.recipe(base.lock) == seeds.recipe(head.lock):
        raise Missing("both are the same recipe; they differ in the seed alone, or not at all.")
    old, new = (seeds.same_recipe(revision) for revision in (base, head))
    accuracies = seeds.accuracies(old), seeds.accuracies(new)
    if min(len(old), len(new)) < 2:
        return Seeds(*accuracies, None, {})
    metrics = _metrics_over_seeds([_metrics(one) for one in old], [_metrics(one) for one in new])
    try:
        said = [predictions(one) for one in old], [predictions(one) for one in new]
    except Missing:
        return Seeds(*accuracies, compare_recipes(*accuracies), metrics)
    per_image = seeds.right_answers(*said)
    unmatched = len(set().union(*said[0], *said[1])) - len(per_image[0])
    return Seeds(*accuracies, compare_recipes(*accuracies, per_image, unmatched), metrics)


def _metrics_over_seeds(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, RecipeComparison]:
    """Of each metric that is a number in all runs and not the same in all seeds, which would leave no noise to compare
    with."""
    everywhere = [name for name in old[0] if all(isinstance(one.get(name), int | float) for one in (*old, *new))]
    found = {name: compare_recipes([one[name] for one in old], [one[name] for one in new]) for name in everywhere}
    return {name: comparison for name, comparison in found.items() if comparison.low < comparison.high}


def _curves(base: Revision, head: Revision) -> dict[str, tuple[list[float], list[float]]]:
    before, after = curves(base), curves(head)
    both = {name: (before[name], after[name]) for name in before.keys() & after.keys()}
    return {name: both[name] for name in _CURVES if name in both and both[name][0] != both[name][1]}


def curves(revision: Revision, names: Sequence[str] = _CURVES) -> dict[str, list[float]]:
    """Figures of a run, a list over its epochs for each; of `names`, those that it has. Raises Missing."""
    rows = revision.table(CURVES)
    if not 0 < len(rows) <= _MOST_EPOCHS:
        raise Malformed(f"{CURVES}: expected 1 to {_MOST_EPOCHS:,} epochs in {revision}, got {len(rows):,}.")
    try:
        found = {name: [float(row[name]) for row in rows] for name in names if name in rows[0]}
    except ValueError as error:
        raise Malformed(f"{CURVES}: not a table of numbers in {revision} ({error}).") from None
    if not all(math.isfinite(value) for values in found.values() for value in values):
        raise Malformed(f"{CURVES}: not a table of finite numbers in {revision}.")
    return found


def _stale(revision: Revision) -> list[Finding]:
    """A claim that is stale is none, and no reproach; one that was edited is. A stale export would be served."""
    try:
        return [*findings(revision), *claim.edited(revision), *exported.export_findings(revision)]
    except Malformed as malformed:
        return [Finding("unreadable", "dvc.lock", str(malformed))]
    except Missing as missing:
        return [Finding("stage", "dvc.lock", str(missing))]


def _malformed(head: Revision, unread: Set[str]) -> list[str]:
    """What is wrong with the files of `head` that the `unread` parts need, though `base` may lack them too."""
    readers: dict[str, Callable[[], object]] = {
        "params": lambda: head.params,
        "metrics": lambda: head.metrics,
        "model": lambda: predictions(head),
        "claims": lambda: claimed_predictions(head),
        "chosen": lambda: _chosen(head),
        "data": lambda: head.manifest,
        "corrections": lambda: corrections_of(head),
        "environment": lambda: _environment(head),
        "curves": lambda: curves(head),
    }
    found = []
    for read in (lambda: head.lock, lambda: head.declared, *(readers[name] for name in readers if name in unread)):
        try:
            read()
        except Malformed as malformed:
            found.append(str(malformed))
        except Missing:
            pass  # the gate has other kinds for what was not written
    return list(dict.fromkeys(found))
