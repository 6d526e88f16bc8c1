"""Two revisions side by side: everything that differs, and whether the gain is more than noise."""

import argparse
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from review import gate, git, seeds
from review.data_changes import DataChanges, compare_manifests
from review.document import markdown, page
from review.freshness import Finding, findings
from review.lock import changed_code, hashes
from review.render import document_of
from review.revision import WORKSPACE, Missing, Revision
from review.significance import ModelComparison, Prediction, RecipeComparison, compare_models, compare_recipes

ANSWERS = "plots/confusion.csv"
MANIFEST = "prepared/manifest.csv"
CURVES = "plots/curves.csv"
ENVIRONMENT = "metrics/environment.json"
_ANSWERS_COLUMNS = ("image", "actual", "predicted")
_MANIFEST_COLUMNS = ("path", "class", "split", "sha256", "status")
_IMAGE = re.compile("[0-9a-f]{16,64}")

Found = TypeVar("Found")
Change = tuple[Any, Any]


class Seeds(NamedTuple):
    """The accuracies of each side's seeds, and, where both have two or more, their comparison."""

    old: list[float]
    new: list[float]
    comparison: RecipeComparison | None


@dataclasses.dataclass(frozen=True)
class Diff:
    """What differs between `base` and `head`; a part that could not be read is a text that says why."""

    base: Revision
    head: Revision
    params: dict[str, Change] | str
    metrics: dict[str, Change] | str
    model: ModelComparison | str
    seeds: Seeds | str
    data: DataChanges | str
    code: dict[str, list[str]] | str
    environment: dict[str, Change] | str
    curves: dict[str, tuple[list[float], list[float]]] | str
    stale: list[Finding]


def compare(base: Revision, head: Revision) -> Diff:
    """Collect everything; nothing that is missing stops the rest."""
    return Diff(
        base=base,
        head=head,
        params=_or_why(lambda: _changes(base.params, head.params)),
        metrics=_or_why(lambda: _changes(_flat(base.metrics), _flat(head.metrics), all_of="accuracy")),
        model=_or_why(lambda: _models(base, head)),
        seeds=_or_why(lambda: _seeds(base, head)),
        data=_or_why(lambda: compare_data(base, head)),
        code=_or_why(lambda: changed_code(base.lock, head.lock)),
        environment=_or_why(lambda: _changes(_environment(base), _environment(head))),
        curves=_or_why(lambda: _curves(base, head)),
        stale=_stale(head),
    )


def compare_data(base: Revision, head: Revision) -> DataChanges:
    """What differs between the images of two revisions. Raises Missing."""
    old, new = (hashes(revision.lock, "outs").get("prepared") for revision in (base, head))
    if old == new:
        return DataChanges(Counter(), Counter(), Counter(), Counter(), 0, (0, 0))
    return compare_manifests(*(revision.tracked_table(MANIFEST, _MANIFEST_COLUMNS) for revision in (base, head)))


def predictions(revision: Revision) -> dict[str, Prediction]:
    """What the model said of each test image, by the first digits of the SHA-256 of its pixels; from Git. Raises
    Missing."""
    return read_predictions(revision.table(ANSWERS, _ANSWERS_COLUMNS), str(revision))


def read_predictions(rows: Iterable[Mapping[str, str]], where: str) -> dict[str, Prediction]:
    """The same from the rows of plots/confusion.csv in `where`. Raises Missing where they are not such rows."""
    found: dict[str, Prediction] = {}
    for row in rows:
        image = row["image"]
        if not _IMAGE.fullmatch(image) or image in found:
            wrong = "stands there twice" if image in found else "expected digits of a SHA-256"
            raise Missing(
                f"{ANSWERS}: in {where}, image {image!r}: {wrong}. `dvc repro --force evaluate` makes it anew."
            )
        found[image] = Prediction(row["actual"], row["predicted"])
    if not found:
        raise Missing(f"{ANSWERS}: no rows in {where}. `dvc repro --force evaluate` makes it anew.")
    return found


def main(arguments: argparse.Namespace) -> None:
    """Print the comparison as Markdown or JSON; with --gate, exit with 1 and the reasons where it must not go in."""
    git.require_merged()
    head = Revision.named(arguments.head)
    if arguments.base:
        base = Revision.named(arguments.base)
    else:
        branch = git.main_branch()
        base = Revision.named(git.merge_base(branch, head.commit or "HEAD"))
    diff = compare(base, head)
    reasons = gate.reasons(diff, arguments.allow, check_remote=not arguments.offline) if arguments.gate else None
    document = document_of(diff, reasons)
    if arguments.html:
        arguments.html.parent.mkdir(parents=True, exist_ok=True)
        arguments.html.write_text(page(document), encoding="utf-8")
    if arguments.json:
        print(json.dumps(_as_json(diff, document.verdict, reasons), indent=2, ensure_ascii=False, default=str))
    else:
        print(markdown(document), end="")
    if reasons is not None:
        gate.conclude(reasons)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review diff`."""
    verb.add_argument("base", nargs="?", help="revision or experiment (default: where HEAD left the main branch)")
    verb.add_argument("head", nargs="?", default=WORKSPACE, help=f"revision or experiment (default: {WORKSPACE})")
    verb.add_argument("--html", type=Path, metavar="FILE", help="also write a page for a browser")
    verb.add_argument("--json", action="store_true", help="print JSON in place of Markdown")
    verb.add_argument("--gate", action="store_true", help="exit with 1, and say why, where HEAD must not go in")
    verb.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KIND[,KIND]=REASON",
        help=f"with --gate: let kinds pass, for a reason that the report shows; kinds: {', '.join(gate.KINDS)}",
    )
    verb.add_argument("--offline", action="store_true", help="with --gate: do not ask the remote what it has")
    verb.set_defaults(run=main)


def _or_why(get: Callable[[], Found]) -> Found | str:
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
    found: dict[str, Any] = {name: value for name, value in record.items() if name != "packages"}
    found |= record.get("packages", {})
    for stage, content in revision.lock["stages"].items():
        for pins in content.get("params", {}).get("pyproject.toml", {}).values():
            found[f"pins of {stage}"] = ", ".join(pins)
    return found


def _flat(metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`file name` → value; evaluate's first, then train's."""
    order = {"metrics/evaluate.json": 0, "metrics/train.json": 1}
    files = sorted(metrics, key=lambda file: (order.get(file, 2), file))
    return {
        f"{Path(file).stem} {name}": value
        for file in files
        for name, value in metrics[file].items()
        if not isinstance(value, dict)
    }


def _models(base: Revision, head: Revision) -> ModelComparison:
    comparison = compare_models(predictions(base), predictions(head))
    if comparison is None:
        raise Missing("the two test splits have no image in common; nothing tells which model is better.")
    return comparison


def _seeds(base: Revision, head: Revision) -> Seeds:
    if seeds.recipe(base.lock) == seeds.recipe(head.lock):
        raise Missing("both are the same recipe; they differ in the seed alone, or not at all.")
    old, new = (seeds.same_recipe(revision) for revision in (base, head))
    accuracies = seeds.accuracies(old), seeds.accuracies(new)
    if min(len(old), len(new)) < 2:
        return Seeds(*accuracies, None)
    try:
        answers = [predictions(one) for one in old], [predictions(one) for one in new]
    except Missing:
        return Seeds(*accuracies, compare_recipes(*accuracies))
    per_image = seeds.right_answers(*answers)
    unmatched = len(set().union(*answers[0], *answers[1])) - len(per_image[0])
    return Seeds(*accuracies, compare_recipes(*accuracies, per_image, unmatched))


def _curves(base: Revision, head: Revision) -> dict[str, tuple[list[float], list[float]]]:
    tables = [revision.table(CURVES) for revision in (base, head)]
    names = ("val_accuracy", "val_loss", "train_loss", "lr")
    try:
        both = {name: tuple([float(row[name]) for row in rows if name in row] for rows in tables) for name in names}
    except ValueError as error:
        raise Missing(f"{CURVES}: of {base} or {head}, not a table of numbers ({error}).") from None
    return {name: (old, new) for name, (old, new) in both.items() if old and new and old != new}


def _stale(revision: Revision) -> list[Finding]:
    try:
        return findings(revision)
    except Missing as missing:
        return [Finding("stage", "dvc.lock", str(missing))]


def _as_json(diff: Diff, verdict: str, reasons: "list[gate.Reason] | None") -> dict[str, Any]:
    """The same facts for machines; `missing` stands where a part could not be read."""
    parts: dict[str, Any] = {"verdict": verdict}
    for name, value in vars(diff).items():
        match value:
            case str():
                parts[name] = {"missing": value}
            case Revision():
                parts[name] = {"name": value.name, "commit": value.commit}
            case DataChanges():
                parts[name] = vars(value) | {kind: _pairs(getattr(value, kind)) for kind in ("relabelled", "resplit")}
            case Seeds():
                parts[name] = {"base": value.old, "head": value.new, "comparison": _plain(value.comparison)}
            case ModelComparison():
                parts[name] = _plain(value)
            case list():
                parts[name] = [vars(finding) for finding in value]
            case dict() if name == "code":
                parts[name] = value
            case _:
                parts[name] = {key: {"base": old, "head": new} for key, (old, new) in value.items()}
    return parts if reasons is None else parts | {"gate": [vars(reason) for reason in reasons]}


def _plain(comparison: ModelComparison | RecipeComparison | None) -> dict[str, Any] | None:
    return dataclasses.asdict(comparison) | {"significant": comparison.significant} if comparison else None


def _pairs(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"from": old, "to": new, "images": images} for (old, new), images in counts.items()]
