"""What the page of a run says, read from a revision; a part that cannot be read is a text that says why."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from review import claim, git
from review.chosen import Chosen, chosen_from
from review.comparison import ENVIRONMENT, curves, or_why, predictions
from review.experiments import RUN
from review.freshness import findings
from review.lock import hashes
from review.report.answers import Answers, read_answers
from review.revision import Malformed, Missing, Revision
from review.seeds import METRICS, require_val
from review.significance import ModelComparison, Prediction, compare_models

TRAIN = "metrics/train.json"
PREPARE = "metrics/prepare.json"
PER_CLASS = "plots/per_class.csv"
SUMMARY = "prepared/summary.txt"
CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr")
_RECIPES = "configs"
_ACCURACY = ("accuracy", "accuracy_low", "accuracy_high", "majority_accuracy", "images")


class OfClass(NamedTuple):
    """The figures of a class on the val images."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


class Against(NamedTuple):
    """The comparison with the last release: the model of its tag, on the val images that both answered."""

    tag: str
    models: ModelComparison


class Recipe(NamedTuple):
    """The file of configs/ that is nearest to the params, and those that it has otherwise, as (here, there)."""

    path: str
    different: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Facts:
    """Everything that the page says. `stale`: in what dvc.lock is not the result of what is there; `commit`: where the
    result is committed, or why it is not."""

    revision: Revision
    commit: str
    stale: list[str]
    accuracy: dict[str, float] | str
    figures: dict[str, float] | str
    claim: dict[str, Any] | str
    chosen: Chosen | str
    against: Against | str
    epochs: tuple[int, int] | str
    classes: list[OfClass] | str
    said: dict[str, Prediction] | str
    answers: Answers | str
    curves: dict[str, list[float]] | str
    counts: dict[str, float] | str
    summary: str
    data_version: str
    params: dict[str, Any]
    recipe: Recipe | str
    environment: dict[str, Any] | str
    run: dict[str, Any] | str


def collect(revision: Revision) -> Facts:
    """Read everything; nothing that is missing stops the rest. Raises Missing where nothing was ever run."""
    run_lock = revision.lock
    require_val(revision)
    data = hashes(run_lock, "deps").get("data", "")
    # What the run had, not params.yaml, which may have changed since.
    params: dict[str, Any] = {}
    for stage in run_lock["stages"].values():
        params |= stage.get("params", {}).get("params.yaml", {})
    return Facts(
        revision=revision,
        commit=_commit(revision),
        stale=[finding.text for finding in findings(revision)],
        accuracy=or_why(lambda: _numbers(revision, METRICS, _ACCURACY)),
        figures=or_why(lambda: _figures(revision)),
        claim=or_why(lambda: claim.figures(revision) | _numbers(revision, claim.FIGURES, ("images",))),
        chosen=or_why(lambda: chosen_from(revision)),
        against=or_why(lambda: _against(revision)),
        epochs=or_why(lambda: _epochs(revision)),
        classes=or_why(lambda: _classes(revision)),
        said=or_why(lambda: predictions(revision)),
        answers=or_why(lambda: read_answers(revision)),
        curves=or_why(lambda: curves(revision, CURVES)),
        counts=or_why(lambda: _counts(revision)),
        summary=str(or_why(lambda: _tracked_text(revision, SUMMARY))),
        data_version=data.removesuffix(".dir")[:12] or "not recorded",
        params=params,
        recipe=or_why(lambda: _recipe(revision, params)),
        environment=or_why(lambda: revision.json(ENVIRONMENT)),
        run=or_why(lambda: revision.json(RUN)),
    )


def _commit(revision: Revision) -> str:
    committed = revision if revision.commit is not None else Revision.named("HEAD")
    assert committed.commit is not None
    place = committed.commit[:7]
    if (commit := git.commit(committed.commit)) and commit.date:
        place += f", {commit.date:%Y-%m-%d}"
    if committed.read("dvc.lock") == revision.read("dvc.lock"):
        return place
    return f"not committed, on top of {place}"


def _numbers(revision: Revision, path: str, names: tuple[str, ...]) -> dict[str, float]:
    return {name: revision.number(path, name) for name in names}


def _figures(revision: Revision) -> dict[str, float]:
    """The metrics beside accuracy, the project's own among them."""
    names = [name for name in revision.json(METRICS) if name not in _ACCURACY and not name.endswith(("_low", "_high"))]
    return _numbers(revision, METRICS, tuple(names))


def _against(revision: Revision) -> Against:
    base = revision.commit or git.resolve("HEAD")
    tags = git.tags_before(base)
    if revision.commit is None and Revision("HEAD", base).read("dvc.lock") != revision.read("dvc.lock"):
        tags = [*git.git("tag", "--points-at", base).split(), *tags]
    for tag in tags:
        try:
            old = predictions(Revision.named(tag))
        except Missing:
            continue  # not a release of a result
        models = compare_models(old, predictions(revision))
        if models is None:
            raise Missing(f"{tag} was measured on other val images; none is common.")
        return Against(tag, models)
    raise Missing("there is no earlier release. `python -m review tag` makes one.")


def _epochs(revision: Revision) -> tuple[int, int]:
    return int(revision.number(TRAIN, "best_epoch")), len(next(iter(curves(revision).values())))


def _classes(revision: Revision) -> list[OfClass]:
    rows = revision.table(PER_CLASS, ("class", *OfClass._fields[1:]))
    try:
        return [
            OfClass(row["class"], float(row["precision"]), float(row["recall"]), float(row["f1"]), int(row["images"]))
            for row in rows
        ]
    except ValueError as error:
        raise Malformed(f"{PER_CLASS}: not a table of figures in {revision} ({error}).") from None


def _counts(revision: Revision) -> dict[str, float]:
    names = ("files", "classes", "train_images", "val_images", "test_images", "median_width", "median_height")
    return _numbers(revision, PREPARE, names)


def _tracked_text(revision: Revision, path: str) -> str:
    return revision.tracked(path).decode("utf-8", "replace")


def _recipe(revision: Revision, had: dict[str, Any]) -> Recipe:
    found = []
    for path in sorted(revision.files(_RECIPES)):
        content = revision.document(path) if path.endswith(".yaml") else None
        if isinstance(content, dict):
            names = [*had, *(name for name in content if name not in had)]
            different = {
                str(name): (had.get(name), content.get(name)) for name in names if had.get(name) != content.get(name)
            }
            found.append(Recipe(path, different))
    if not found:
        raise Missing(f"{_RECIPES}/: no recipe in {revision} to compare with.")
    return min(found, key=lambda recipe: (len(recipe.different), recipe.path))


def confusions(run: Facts) -> Counter[tuple[str, str]]:
    """How often each class was taken for which: by all val images where predictions.csv can be had, else by those in
    Git. Empty where neither can."""
    if isinstance(run.answers, Answers):
        return run.answers.confusions()
    return Counter() if isinstance(run.said, str) else Counter((one.actual, one.predicted) for one in run.said.values())
