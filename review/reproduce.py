"""Run a revision again and judge it: `python -m review reproduce REV`.

identical       every output has the same bytes
different       what the revision claims is not what its code, params and data give; says which file, since which stage
consistent      this run was native, and the claim's record names another kind of machine: bytes differ, but predictions
                do not differ significantly, and the accuracy lies in the claimed interval
not comparable  it cannot be told here: the claim is a GPU's and there is none here; other packages, or data that is
                missing

A claim with `cpu_arithmetic: portable` is identical or different wherever this run computes portably by its own record:
what the claim's metrics/environment.json says of a CPU excuses nothing.

The revision's code is run in a sandbox: its inputs are fetched first, and then it sees its checkout and the programs of
this machine, but no environment, home or network. Where the kernel allows none, this is said, and it has the
environment of nobody, but can read what you can read.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import math
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from review import claim, cleanroom, outputs, sandbox
from review.comparison import ANSWERS, ENVIRONMENT, answers
from review.freshness import findings
from review.lock import NOT_RESULTS, Lock, weights_of
from review.revision import CLAIM, WORKSPACE, Malformed, Missing, Revision
from review.seeds import METRICS
from review.significance import compare_models
from stages.common.documents import parse_json, parse_yaml
from stages.common.errors import UserError
from stages.common.files import write_text
from stages.common.versions import DATA, POINTER, data_version, import_source
from stages.common.yaml12 import dump_yaml

EXIT_CODES = {"identical": 0, "consistent": 0, "different": 1, "not comparable": 2}
# What metrics/environment.json records without a say in any number.
_NO_SAY = {"cpu_count", "image", "platform", "python"}
# By split, the table of answers and the file of figures.
_JUDGED = {"val": (ANSWERS, METRICS), "test": (claim.ANSWERS, claim.FIGURES)}


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
    verdict = judge(revision, arguments.stage, confined=not arguments.no_sandbox)
    print(f"{revision}: {verdict.word}. {verdict.why}")
    for line in verdict.particulars:
        print(f"  {line}")
    sys.exit(EXIT_CODES[verdict.word])


def judge(revision: Revision, stage: str | None = None, *, confined: bool = True) -> Verdict:
    """Run `revision`, or one stage of it, in a clean checkout, and compare with what it claims."""
    assert revision.commit is not None
    files, not_run = ["dvc.yaml"], []
    try:
        stages = dict(revision.lock["stages"])
        try:
            stages |= claim.fresh_lock(revision)["stages"]
            files.append(f"{CLAIM}/dvc.yaml")
        except Malformed:
            raise
        except Missing as missing:
            not_run = [] if stage or revision.claim_lock is None else [f"test accuracy: {missing}"]
        if stage is not None and stage not in stages:
            raise UserError(f"--stage {stage}: no such stage in {revision}; expected {', '.join(stages)}.")
        changed = [finding.text for finding in [*findings(revision), *claim.edited(revision)]]
    except Missing as missing:
        return Verdict("not comparable", "It claims nothing.", [str(missing)])
    if changed:
        return Verdict(
            "different", "Its result is not that of its own code, params and data; nothing was run.", changed
        )
    lock = {"stages": stages}
    packages = list(other_packages(lock))
    if packages:
        return Verdict(
            "not comparable", "Other packages are installed here. `make install` at that revision.", packages
        )
    judged = [stage] if stage else list(stages)
    if "cuda" in _values(lock, judged, "device") and not _has_gpu():
        return Verdict(
            "not comparable",
            "Its params say device: cuda, and PyTorch sees no CUDA GPU here; nothing was run. On a machine with a GPU "
            "this can be checked.",
        )
    with cleanroom.checked_out(revision.commit, confined=confined) as room:
        missing_data = get_inputs(room.path, lock, stage)
        if missing_data:
            return Verdict("not comparable", "Data is missing.", [missing_data])
        if confined:
            cleanroom.seal(room.path)
        say_what_it_sees(revision, confined=confined)
        file = f"{CLAIM}/dvc.yaml" if stage == CLAIM else "dvc.yaml"
        targets = ["--single-item", f"{file}:{stage}"] if stage else files
        command = ["dvc", "repro", "--force", "--no-commit", *targets]
        code = room.run(*command)
        if code:
            return Verdict("different", f"It does not run to its end here: `{' '.join(command)}` exited with {code}.")
        verdict = compare(revision, lock, room, judged)
        return dataclasses.replace(verdict, particulars=[*verdict.particulars, *not_run])


def say_what_it_sees(revision: Revision, *, confined: bool) -> None:
    """Whose code is about to run, and what it can reach; on stderr."""
    unavailable = sandbox.why_unavailable()
    if not confined:
        text = "as you: with your environment, files and network"
    elif unavailable:
        text = (
            f"without your environment, but it can read your files and use the network: no sandbox here ({unavailable})"
        )
    else:
        text = "in a sandbox: without your environment, files and network"
    print(f"reproduce: running the code of {revision} {text}", file=sys.stderr, flush=True)


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
    """Bring what the run starts from into the clean checkout, by this checkout's code, remotes and keys; what is
    missing, or an empty text. UserError where it is not what the revision's files name."""
    from scripts.sample import DVC_MD5, write_sample
    from storage.pull import PLACES, WEIGHTS, AbsentError, pull

    needed = [DATA] if stage is None else [dep["path"] for dep in lock["stages"][stage].get("deps", [])]
    needed += weights_of(lock) if stage in (None, "train") else []
    made = [out["path"] for one in lock["stages"].values() for out in one.get("outs", [])]
    tracked = [
        path
        for path in needed
        if path == DATA or path.startswith(f"{WEIGHTS}/") or any(f"{path}/".startswith(f"{out}/") for out in made)
    ]
    if import_source(place):
        _forget_source(place / POINTER)
    try:
        # The others are in Git. What DVC keeps must not be there before: its bytes would be those of nobody's run.
        pull(place, [path for path in tracked if path.split("/")[0] in PLACES])
    except AbsentError as absent:
        if absent.paths == [DATA] and data_version(place).name == DVC_MD5:
            write_sample(place / DATA)
            return ""
        without = "" if stage is None else " Without --stage, all stages run."
        return f"{absent}{without}"
    return ""


def _forget_source(pointer: Path) -> None:
    """Make an import mere data, which `dvc repro` would look for at its source: that is elsewhere, and not for a
    stranger's code to ask."""
    content = parse_yaml(pointer.read_bytes())
    write_text(pointer, dump_yaml({"outs": content["outs"]}))


def compare(revision: Revision, lock: Lock, room: cleanroom.Cleanroom, stages: list[str]) -> Verdict:
    """Judge what the clean checkout holds after the run by what `revision` claims. `lock`: of all its stages."""
    # By the files themselves: the dvc.lock in there was written beside somebody else's code.
    claimed_outs = {stage: _outputs(lock, stage) for stage in stages}
    differing = {
        stage: [path for path, claimed in sorted(outs.items()) if outputs.hash_of(room.path, path) != claimed]
        for stage, outs in claimed_outs.items()
    }
    first = next((stage for stage, paths in differing.items() if paths), None)
    count = sum(map(len, claimed_outs.values()))
    if first is None:
        return Verdict("identical", f"{count} of {count} outputs have the same bytes.")
    paths = [path for of_stage in differing.values() for path in of_stage]
    particulars = [f"since stage {first}: {', '.join(paths)}", *_metric_changes(revision, room.path, paths)]
    try:
        claimed = revision.json(ENVIRONMENT)
    except Missing as missing:
        claimed, particulars = {}, [*particulars, str(missing)]
    here = _own_record(room, trained="train" in stages)
    portable = (
        here.get("device") == "cpu"
        and here.get("arithmetic") == "portable"
        and _values(lock, lock["stages"], "cpu_arithmetic") == {"portable"}
    )
    machine = list(_machine_differences(claimed, here, trained="train" in stages))
    on_trust = [f"machine: {text}" for text in machine]
    # A stage without this param never computes on a GPU.
    uses_device = bool(_values(lock, [first], "device"))
    if uses_device and claimed.get("device") == "cuda" and here.get("device") == "cpu":
        return Verdict(
            "not comparable",
            f"{len(paths)} of {count} outputs have other bytes here, on a CPU. Taken on trust: the claim's record says "
            f"it was made on {', '.join(filter(None, ('cuda', str(claimed.get('gpu', '')))))}; on a machine with a GPU "
            "this can be checked.",
            particulars + on_trust,
        )
    if portable:
        return Verdict(
            "different",
            f"{len(paths)} of {count} outputs have other bytes, in portable arithmetic, with the same code, params, "
            "data and packages.",
            particulars + on_trust,
        )
    if not here or not claimed:
        why = "and which machine made the claim, or this run, is not recorded"
        return Verdict("not comparable", f"{len(paths)} of {count} outputs have other bytes, {why}.", particulars)
    if not machine:
        return Verdict(
            "different",
            f"{len(paths)} of {count} outputs have other bytes, on the same kind of machine, with the same code, "
            "params, data and packages.",
            particulars,
        )
    particulars += [*on_trust, f"taken on trust: what the claim's {ENVIRONMENT} says of its machine"]
    verdict = Verdict(
        "consistent", "Other bytes on another kind of machine; the predictions are the same.", particulars
    )
    for split, (table, _) in _JUDGED.items():
        if table in paths:
            verdict = _by_predictions(revision, room.path, split, particulars)
            if verdict.word != "consistent":
                break
    return verdict


def _outputs(lock: Lock, stage: str) -> dict[str, str | None]:
    outs = lock["stages"].get(stage, {}).get("outs", [])
    return {out["path"]: out.get("md5") for out in outs if out["path"] not in NOT_RESULTS}


def _values(lock: Lock, stages: Iterable[str], param: str) -> set[Any]:
    """What these stages' runs had as `param`; of those that have it."""
    of_stages = (lock["stages"][stage].get("params", {}).get("params.yaml", {}) for stage in stages)
    return {params[param] for params in of_stages if param in params}


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def _left_in(place: Path) -> Iterator[Revision]:
    """What the run left in the checkout; Git is not asked there, as its configuration may be somebody else's by now."""
    with contextlib.chdir(place):
        yield Revision(WORKSPACE, None)


def _metric_changes(revision: Revision, place: Path, paths: list[str]) -> Iterator[str]:
    for path in paths:
        if path.startswith("metrics/") or path == claim.FIGURES:
            try:
                old = revision.json(path)
            except Missing as missing:
                yield str(missing)
                continue
            try:
                with _left_in(place) as again:
                    new = again.json(path)
            except Missing:
                continue  # that it differs is said
            for name in [*new, *(name for name in old if name not in new)]:
                if old.get(name) != new.get(name):
                    yield f"{path}: {name} claimed {old.get(name)}, here {new.get(name)}"


def _own_record(room: cleanroom.Cleanroom, *, trained: bool) -> dict[str, Any]:
    """What this run was computed with; empty where its code does not tell."""
    # Without a training, the record in the checkout is the claim's own.
    try:
        if trained:
            with _left_in(room.path) as again:
                return again.json(ENVIRONMENT)
        record = parse_json(room.output("python", "-m", "stages.train.environment").encode())
    except (Missing, subprocess.CalledProcessError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _machine_differences(old: dict[str, Any], new: dict[str, Any], *, trained: bool) -> Iterator[str]:
    """What differs between the records of the claim and of this run, and may change the last digits."""
    no_say = _NO_SAY if trained else _NO_SAY | {"processes"}
    for name in sorted((old.keys() | new.keys()) - no_say):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name)} → {new.get(name)}"


def _by_predictions(revision: Revision, place: Path, split: str, particulars: list[str]) -> Verdict:
    table, path = _JUDGED[split]
    try:
        claimed, metrics = answers(revision, table), revision.json(path)
        with _left_in(place) as again:
            here, accuracy = answers(again, table), again.json(path).get("accuracy", math.nan)
    except Missing as missing:
        why = f"Bytes differ, and the predictions for {split} images cannot be compared."
        return Verdict("not comparable", why, [*particulars, str(missing)])
    models = compare_models(claimed, here)
    if models is None or models.unmatched:
        return Verdict("different", f"Its {split} images are not those that its data give.", particulars)
    figures = (
        f"{models.gained + models.lost} of {models.images} {split} images changed between right and wrong, "
        f"p = {models.p_value:.2g}"
    )
    low, high = (metrics.get(f"accuracy_{end}") for end in ("low", "high"))
    within = isinstance(low, float | int) and isinstance(high, float | int) and low <= accuracy <= high
    figures += f"; accuracy {accuracy:.4f}, {'within' if within else 'outside'} the claimed {low}–{high}"
    if models.significant or not within:
        return Verdict("different", f"Another kind of machine, but more than rounding: {figures}.", particulars)
    return Verdict("consistent", f"Other bytes on another kind of machine: {figures}.", particulars)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review reproduce`."""
    verb.description = __doc__
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    verb.add_argument("revision", help="commit, tag, branch or experiment")
    verb.add_argument(
        "--stage", metavar="NAME", help="run this stage alone, on the recorded outputs of those before it"
    )
    verb.add_argument(
        "--no-sandbox",
        action="store_true",
        help="run its code with your environment, files and network: for Slurm, and code that you trust",
    )
    verb.set_defaults(run=main)
