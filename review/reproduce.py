"""Run a revision again and judge it: `python -m review reproduce REV`.

identical       every output has the same bytes
consistent      another kind of machine: bytes differ, but predictions do not differ significantly, and metrics lie
                within the claimed intervals
different       what the revision claims is not what its code, params and data give; says which file, since which stage
not comparable  it cannot be told here: other packages, or data that is missing
"""

import argparse
import csv
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from review import cleanroom
from review.diff import ENVIRONMENT, PREDICTIONS, predictions, read_predictions
from review.freshness import findings
from review.lock import NOT_RESULTS, Lock
from review.revision import WORKSPACE, Missing, Revision
from review.seeds import METRICS
from review.significance import compare_models
from stages.errors import UserError

EXIT_CODES = {"identical": 0, "consistent": 0, "different": 1, "not comparable": 2}
# What metrics/environment.json records without a say in any number.
_NO_SAY = {"cpu_count", "image", "platform", "python"}


@dataclass(frozen=True)
class Verdict:
    """One of EXIT_CODES, in a line why, and the particulars."""

    word: str
    why: str
    particulars: list[str] = field(default_factory=list)


def main(arguments: argparse.Namespace) -> None:
    """Judge the revision; print the verdict; exit with its code."""
    revision = Revision.named(arguments.revision)
    if revision.commit is None:
        raise UserError(f"reproduce: {WORKSPACE} is not a revision. Commit first; `dvc repro --force` runs it here.")
    verdict = judge(revision, arguments.stage)
    print(f"{revision}: {verdict.word}. {verdict.why}")
    for line in verdict.particulars:
        print(f"  {line}")
    sys.exit(EXIT_CODES[verdict.word])


def judge(revision: Revision, stage: str | None = None) -> Verdict:
    """Run `revision`, or one stage of it, in a clean checkout, and compare with what it claims."""
    assert revision.commit is not None
    try:
        stages = revision.lock["stages"]
        if stage is not None and stage not in stages:
            raise UserError(f"--stage {stage}: no such stage in {revision}; expected {', '.join(stages)}.")
        changed = [finding.text for finding in findings(revision)]
    except Missing as missing:
        return Verdict("not comparable", "It claims nothing.", [str(missing)])
    if changed:
        return Verdict(
            "different", "Its result is not that of its own code, params and data; nothing was run.", changed
        )
    packages = list(other_packages(revision.lock))
    if packages:
        return Verdict(
            "not comparable", "Other packages are installed here. `make install` at that revision.", packages
        )
    with cleanroom.checked_out(revision.commit) as place:
        missing_data = get_inputs(place, revision.lock, stage)
        if missing_data:
            return Verdict("not comparable", "Data is missing; DVC's own words stand above.", [missing_data])
        command = ["dvc", "repro", "--force", "--no-commit", *(["--single-item", stage] if stage else [])]
        code = cleanroom.run(place, *command)
        if code:
            return Verdict("different", f"It does not run to its end here: `{' '.join(command)}` exited with {code}.")
        return compare(revision, place, [stage] if stage else list(stages))


def other_packages(lock: Lock) -> Iterator[str]:
    """The pins of the run that are not what is installed here."""
    seen = set()
    for stage in lock["stages"].values():
        for pins in stage.get("params", {}).get("pyproject.toml", {}).values():
            for pin in pins:
                name, _, wanted = re.sub(r"\[.*?\]", "", pin).partition("==")
                if name in seen:
                    continue
                seen.add(name)
                try:
                    installed = importlib.metadata.version(name)
                except importlib.metadata.PackageNotFoundError:
                    installed = "none"
                # A local label, as in 2.11.0+cpu, is the same version of other making.
                if installed.split("+")[0] != wanted:
                    yield f"{name}: {wanted} in the run, {installed} here"


def get_inputs(place: Path, lock: Lock, stage: str | None) -> str:
    """Bring what the run starts from into the clean checkout; what is missing, or an empty text."""
    if stage is None:
        failed = cleanroom.run(place, sys.executable, "-m", "scripts.get_data")
        return "data/: in neither DVC's cache nor the remote; ask whoever made it to `dvc push`." if failed else ""
    made = [out["path"] for one in lock["stages"].values() for out in one.get("outs", [])]
    needed = [dep["path"] for dep in lock["stages"][stage].get("deps", [])]
    needed = [path for path in needed if any(path == out or path.startswith(f"{out}/") for out in made)]
    cached = [path for path in needed if not (place / path).exists()]
    if cached and cleanroom.run(place, "dvc", "pull", "--quiet", *cached):
        return f"{', '.join(cached)}: in neither DVC's cache nor the remote; without --stage, all stages run."
    if (place / "data.dvc").exists() and "data" in needed + [dep["path"] for dep in lock["stages"][stage]["deps"]]:
        return get_inputs(place, lock, None)
    return ""


def compare(revision: Revision, place: Path, stages: list[str]) -> Verdict:
    """Judge what the clean checkout holds after the run by what `revision` claims."""
    again: Lock = yaml.safe_load((place / "dvc.lock").read_text(encoding="utf-8"))
    differing = {stage: list(differing_outputs(revision.lock, again, stage)) for stage in stages}
    first = next((stage for stage, paths in differing.items() if paths), None)
    count = sum(len(_outputs(revision.lock, stage)) for stage in stages)
    if first is None:
        return Verdict("identical", f"{count} of {count} outputs have the same bytes.")
    paths = [path for of_stage in differing.values() for path in of_stage]
    particulars = [f"since stage {first}: {', '.join(paths)}", *_metric_changes(revision, place, paths)]
    machine = list(_machine(revision, place, trained="train" in stages))
    if not machine:
        return Verdict(
            "different",
            f"{len(paths)} of {count} outputs have other bytes, on the same kind of machine, with the same code, "
            "params, data and packages.",
            particulars,
        )
    particulars += [f"machine: {text}" for text in machine]
    if PREDICTIONS not in paths:
        return Verdict(
            "consistent", "Other bytes on another kind of machine; the predictions are the same.", particulars
        )
    return _by_predictions(revision, place, particulars)


def differing_outputs(claimed: Lock, again: Lock, stage: str) -> Iterator[str]:
    """The results of a stage whose recorded hashes differ."""
    old, new = (_outputs(lock, stage) for lock in (claimed, again))
    yield from (path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path))


def _outputs(lock: Lock, stage: str) -> dict[str, str | None]:
    outs = lock["stages"].get(stage, {}).get("outs", [])
    return {out["path"]: out.get("md5") for out in outs if out["path"] not in NOT_RESULTS}


def _metric_changes(revision: Revision, place: Path, paths: list[str]) -> Iterator[str]:
    for path in paths:
        if path.startswith("metrics/"):
            old, new = revision.json(path), json.loads((place / path).read_text(encoding="utf-8"))
            for name in [*new, *(name for name in old if name not in new)]:
                if old.get(name) != new.get(name):
                    yield f"{path}: {name} claimed {old.get(name)}, here {new.get(name)}"


def _machine(revision: Revision, place: Path, *, trained: bool) -> Iterator[str]:
    """What differs between the machine of the claim and this one, and may change the last digits."""
    old = revision.json(ENVIRONMENT)
    no_say = _NO_SAY
    if trained:
        new = json.loads((place / ENVIRONMENT).read_text(encoding="utf-8"))
    else:
        # The record in the checkout is the claim's own.
        new = json.loads(cleanroom.output(place, sys.executable, "-m", "stages.environment"))
        no_say = no_say | {"processes"}
    for name in sorted((old.keys() | new.keys()) - no_say):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name)} → {new.get(name)}"


def _by_predictions(revision: Revision, place: Path, particulars: list[str]) -> Verdict:
    try:
        claimed = predictions(revision)
    except Missing as missing:
        return Verdict("not comparable", "Bytes differ, and the claimed predictions are missing.", [str(missing)])
    with (place / PREDICTIONS).open(encoding="utf-8", newline="") as stream:
        here = read_predictions(csv.DictReader(stream))
    models = compare_models(claimed, here)
    if models is None or claimed.keys() != here.keys():
        return Verdict("different", "Its test images are not those that its data give.", particulars)
    figures = (
        f"{models.gained + models.lost} of {models.images} test images changed between right and wrong, "
        f"p = {models.p_value:.2g}"
    )
    metrics = revision.json(METRICS)
    accuracy = json.loads((place / METRICS).read_text(encoding="utf-8"))["accuracy"]
    within = metrics["accuracy_low"] <= accuracy <= metrics["accuracy_high"]
    where = "within" if within else "outside"
    figures += f"; accuracy {accuracy:.4f}, {where} the claimed {metrics['accuracy_low']}–{metrics['accuracy_high']}"
    if models.significant or not within:
        return Verdict("different", f"Another kind of machine, but more than rounding: {figures}.", particulars)
    return Verdict("consistent", f"Other bytes on another kind of machine: {figures}.", particulars)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review reproduce`."""
    verb.add_argument("revision", help="commit, tag, branch or experiment")
    verb.add_argument(
        "--stage", metavar="NAME", help="run this stage alone, on the recorded outputs of those before it"
    )
    verb.set_defaults(run=main)
