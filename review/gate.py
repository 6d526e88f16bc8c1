"""What must not go in: `python -m review diff --gate`."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from review import claim, store
from review.comparison import ANSWERS, Diff, agrees, claimed_predictions, predictions
from review.corrected import named_test_images
from review.data_changes import SplitChanges
from review.lock import hashes, weights_of
from review.revision import Malformed, Missing, Revision
from review.seeds import METRICS
from review.significance import ModelComparison
from stages.common.corrections import FILE as CORRECTIONS
from stages.common.errors import UserError, listed
from stages.common.versions import DATA

KINDS = {
    "stale": "dvc.lock is not the result of code, params, data or packages",
    "edited": "a file in Git is not what the run wrote",
    "unlisted": "a stage uses a module or a param that dvc.yaml does not list",
    "no-result": "code or params changed, but nothing was run",
    "unpushed": "an output is in no remote",
    "loss": "the model is significantly worse",
    "val-changed": "val images were added, removed, or are of another class, and no comparison covers them",
    "test-changed": "the same of the test images, of two claims or of the data",
    "near-duplicates": "more images of train or val are nearly the same as one of val or test",
    "command": "a stage runs something else than one module of the project",
    "undeclared": "a metrics file that no stage of dvc.yaml writes",
    "unknown": "whether the model is worse cannot be told",
    "unreadable": "a file is not what it should be",
}


# Of the scaffold's own stages; a project's own may run any module.
_MODULES = {
    "prepare": ["stages.prepare"],
    "train": ["stages.train.launch", "stages.train"],
    "evaluate": ["stages.evaluate"],
    "claim": ["stages.evaluate.claim"],
    "export": ["stages.export"],
}
# Params by which an image may come into another split, or into none.
_SPLITTING = ("group_pattern", "on_conflict", "on_corrupt", "split_seed", "test_fraction", "val_fraction")
# No shell's way to run another program before, after or within.
_ONE_PROGRAM = re.compile(r"python3? (-m [\w.]+|[\w./-]+\.py)( [^;&|<>()`$\\\n]*)?")
_OWN_FOLDER = "the default remote is {}, a folder of this clone: nobody else can get data and weights from it"


@dataclass(frozen=True)
class Reason:
    """Why a revision must not go in; `allowed`: the stated reason why it may nevertheless."""

    kind: str
    text: str
    allowed: str = ""


def reasons(diff: Diff, allow: Sequence[str], *, check_remote: bool) -> list[Reason]:
    """All reasons against `diff.head`. UserError where `allow` names a kind that does not exist, or gives no reason."""
    allowed = {kind: reason for text in allow for kind, reason in exceptions(text, KINDS)}
    found: list[Reason] = []
    for finding in diff.stale:
        kinds = {"output": "edited", "stage": "no-result", "unlisted": "unlisted", "unreadable": "unreadable"}
        kind = kinds.get(finding.kind, "stale")
        found.append(Reason(kind, finding.text))
    found += [Reason("unreadable", text) for text in diff.malformed]
    found += [Reason("stale", text) for text in _other_inputs(diff.head)]
    found += _accuracy(diff.head)
    found += [*_commands(diff.head), *_undeclared(diff.head)]
    by_hand = corrected_test_images(diff)
    found += [*_near_duplicates(diff), *_unmatched(diff.model, "val"), *_unmatched(diff.claims, "test", by_hand)]
    # Where there are claims to compare, that has said it.
    if isinstance(diff.claims, str) and not isinstance(diff.data, str) and any(diff.data.test):
        found.append(Reason("test-changed", test_changes(diff.data.test) + by_hand))
    elif isinstance(diff.data, str) and (inputs := other_splits(diff)):
        text = f"{', '.join(inputs)} changed, and whether the test images did cannot be told: {diff.data}"
        found.append(Reason("test-changed", text))
    if isinstance(diff.model, ModelComparison):
        if diff.model.significant and diff.model.difference < 0:
            found.append(
                Reason(
                    "loss",
                    f"accuracy {diff.model.old:.4f} → {diff.model.new:.4f} on {diff.model.images} common val images, "
                    f"p = {diff.model.p_value:.2g}",
                )
            )
    else:
        found.append(Reason("unknown", diff.model))
    recipes = None if isinstance(diff.seeds, str) else diff.seeds.comparison
    if recipes and recipes.unmatched and not (isinstance(diff.model, ModelComparison) and diff.model.unmatched):
        found.append(Reason("val-changed", f"{recipes.unmatched} val images are not in all seeds under one class"))
    if recipes and recipes.significant and recipes.difference < 0:
        found.append(Reason("loss", f"the mean accuracy over seeds is lower, p = {recipes.p_value:.2g}"))
    if check_remote:
        absent = unpushed() if diff.head.commit is None else unpushed_at(diff.head)
        found += [Reason("unpushed", text) for text in absent]
    return [Reason(one.kind, one.text, allowed.get(one.kind, "")) for one in dict.fromkeys(found)]


def conclude(found: Sequence[Reason]) -> None:
    """End with exit code 1 where a reason is not allowed; the reasons go to stderr too, for a log."""
    refused = [reason for reason in found if not reason.allowed]
    if refused:
        raise UserError(
            f"gate: {len(refused)} reason{'s' if len(refused) > 1 else ''} against\n"
            + listed([f"{reason.kind}: {reason.text}" for reason in refused])
            + "\nMend them, or state an exception: --allow 'KIND=why it may go in'."
        )
    print("gate: passed", file=sys.stderr)


def unpushed() -> list[str]:
    """Outputs and data of the working tree's dvc.lock that the remote does not have; or why that cannot be told."""
    if own := store.own_folder():
        return [_OWN_FOLDER.format(own)]
    done = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "data", "status", "--not-in-remote", "--json"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        return [f"the remote cannot be asked: {done.stderr.strip() or 'dvc data status failed'}"]
    absent = json.loads(done.stdout).get("not_in_remote", [])
    return [f"{path}: not in the remote; `dvc push` sends it" for path in absent]


def unpushed_at(head: Revision) -> list[str]:
    """Outputs and data of a commit's dvc.lock that the working tree's default remote does not have; or why that cannot
    be told. What Git has needs no remote."""
    try:
        recorded = hashes(head.lock, "deps") | hashes(head.lock, "outs")
        made = hashes(head.lock, "outs")
        if head.export_lock is not None:
            exports = hashes(head.export_lock, "outs")
            recorded, made = exports | recorded, exports | made
        wanted = {
            path: digest
            for path, digest in recorded.items()
            if digest and not head.in_git(path) and (path in made or head.pointer(path) is not None)
        }
        for path in weights_of(head.lock):
            if (digest := head.pointer(path)) is None:
                return [f"{path}.dvc: not in {head}; `git add` it, so that others can train from these weights"]
            wanted[path] = digest
        if own := store.own_folder():
            return [_OWN_FOLDER.format(own)]
        absent = store.not_in_remote(wanted.values())
    except (Missing, store.NotHere) as reason:
        return [f"the remote cannot be asked: {reason}"]
    return [f"{path}: not in the remote; `dvc push` sends it" for path, digest in wanted.items() if digest in absent]


def _unmatched(models: ModelComparison | str, split: str, more: str = "") -> Iterator[Reason]:
    if isinstance(models, ModelComparison) and models.unmatched:
        yield Reason(
            f"{split}-changed",
            f"{models.unmatched} {split} images have no counterpart: {models.removed} in base alone, {models.added} in "
            f"head alone, {models.relabelled} of another class in head{more}",
        )


def test_changes(changes: SplitChanges) -> str:
    """How the test split differs, in one line."""
    return (
        f"the test set changed: {changes.added} images added, {changes.removed} removed, "
        f"{changes.relabelled} of another class"
    )


def corrected_test_images(diff: Diff) -> str:
    """Which test images differ because somebody has decided so, to go on with after `test_changes`; empty where there
    are none, or where that cannot be told."""
    if isinstance(diff.corrections, str) or isinstance(diff.data, str):
        return ""
    named = named_test_images(diff.corrections, diff.data.images)
    return f"; by hand: {named}" if named else ""


def other_splits(diff: Diff) -> list[str]:
    """The inputs of prepare that differ and that may change which images are in which split."""
    try:
        old, new = (revision.lock for revision in (diff.base, diff.head))
    except Missing:
        return []
    of_data = (hashes(lock, "deps").get(DATA) for lock in (old, new))
    found = [DATA] if len(set(of_data)) > 1 else []
    if not isinstance(diff.corrections, str) and any(one.decides for one in diff.corrections):
        found.append(str(CORRECTIONS))
    before, after = (lock["stages"].get("prepare", {}).get("params", {}).get("params.yaml", {}) for lock in (old, new))
    return found + [name for name in _SPLITTING if before.get(name) != after.get(name)]


def _commands(head: Revision) -> Iterator[Reason]:
    """Commands by which the outputs of a stage may be those of something else than its module."""
    try:
        commands = head.commands
    except Malformed:
        return  # has a kind of its own
    for name, command in commands.items():
        modules = _MODULES.get(name)
        if modules and command not in (expected := [f"python -m {module}" for module in modules]):
            yield Reason("command", f"{name}: expected `{expected[0]}`, got `{command}`")
        elif not _ONE_PROGRAM.fullmatch(command):
            yield Reason("command", f"{name}: expected `python -m <module>` with its arguments, got `{command}`")


def _undeclared(head: Revision) -> Iterator[Reason]:
    """Metrics that `dvc metrics`, or a person, would take for a stage's."""
    try:
        declared = head.declared_metrics
        written = {path for path, _ in head.outputs()}
        found = [path for path in {*declared, *head.files("metrics")} if path not in written]
    except Malformed:
        return  # has a kind of its own
    for path in sorted(found):
        yield Reason(
            "undeclared", f"{path}: no stage of dvc.yaml writes it. Declare it where it is written, or remove it."
        )


def _near_duplicates(diff: Diff) -> Iterator[Reason]:
    """Where the accuracy may be better than it is, because the model has nearly seen the images."""
    old, new = map(_kept_near_duplicates, (diff.base, diff.head))
    if new > old:
        yield Reason(
            "near-duplicates",
            f"{new} images of train or val are nearly the same as one of val or test, {old} in base; "
            "`on_near_duplicate: quarantine` leaves them out, prepared/manifest.csv names them",
        )


def _kept_near_duplicates(revision: Revision) -> int:
    try:
        found = revision.metrics.get("metrics/prepare.json", {}).get("near_duplicates")
        is_kept = revision.params.get("on_near_duplicate") != "quarantine"
    except Missing:
        return 0  # has a kind of its own
    return found if is_kept and isinstance(found, int) else 0


def _accuracy(head: Revision) -> Iterator[Reason]:
    """Where the accuracy that the figures state is not that of the answers beside them."""
    files = [(METRICS, ANSWERS, predictions), (claim.FIGURES, claim.ANSWERS, claimed_predictions)]
    for path, table, read in files:
        try:
            answers = read(head)
            stated, images = head.number(path, "accuracy"), head.number(path, "images")
        except Malformed as malformed:
            yield Reason("unreadable", str(malformed))
            continue
        except Missing:
            continue  # has a kind of its own
        accuracy = sum(answer.right for answer in answers.values()) / len(answers)
        if not agrees(stated, images, accuracy, len(answers)):
            yield Reason(
                "edited",
                f"{path}: accuracy {stated} on {images:.0f} images, and {accuracy:.6f} on {len(answers)} in {table}",
            )


def _other_inputs(head: Revision) -> list[str]:
    """Inputs of stages that lie in a folder which a stage made, and are recorded as other than what it made; of folders
    whose list this clone can have."""
    found = []
    try:
        made, deps = hashes(head.lock, "outs"), [*hashes(head.lock, "deps").items()]
    except Missing:
        return []
    with contextlib.suppress(Missing):
        deps += hashes(claim.fresh_lock(head), "deps").items()
    with contextlib.suppress(Missing):
        deps += hashes(head.export_lock, "deps").items() if head.export_lock else ()
    for folder in (path for path, digest in made.items() if digest and digest.endswith(".dir")):
        inside = sorted({(path, digest) for path, digest in deps if path.startswith(f"{folder}/")})
        if not inside:
            continue
        try:
            listed = head.listing(folder)
        except Malformed as malformed:
            found.append(str(malformed))
            continue
        except Missing:
            continue  # a clone without cache and remote cannot tell; `review reproduce` can
        found += [
            f"{path}: recorded as another one than {folder} has"
            for path, digest in inside
            if listed.get(path) != digest
        ]
    return found


def exceptions(text: str, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What `--allow` says: kinds of `known`, which has their meanings, each with the stated reason. UserError where it
    is none of them, or gives no reason."""
    kinds, _, reason = text.partition("=")
    for kind in kinds.split(","):
        if kind.strip() not in known or not reason.strip():
            meanings = "\n".join(f"  {name}: {meaning}" for name, meaning in known.items())
            raise UserError(f"--allow: expected KIND=REASON or KIND,KIND=REASON, got {text!r}. Kinds:\n{meanings}")
        yield kind.strip(), reason.strip()
