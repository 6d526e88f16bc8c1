"""Run a revision again and judge it: `python -m review reproduce REV`.

identical       every output has the same bytes
different       what the revision claims is not what its code, params and data give; says which file, since which stage
consistent      this run was native, and the claim's record names another kind of machine: bytes differ, but predictions
                do not differ significantly, and the accuracy lies in the claimed interval
not comparable  it cannot be told here: the claim is a GPU's and there is none here; other packages, or data that is
                missing
not checked     the run was not over after --at-most minutes, and was stopped

A claim with `cpu_arithmetic: portable` is identical or different wherever this run computes portably by its own record:
what the claim's metrics/environment.json says of a CPU excuses nothing.

The revision's code is run in a sandbox: its inputs are fetched first, and then it sees its checkout and the programs of
this machine, but no environment, home or network. Where the kernel allows none, this is said, and it has the
environment of nobody, but can read what you can read. Of the checkout, each stage sees what dvc.yaml lists for it.
"""

import argparse
import dataclasses
import graphlib
import importlib.metadata
import math
import os
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from review import claim, cleanroom, exported, sandbox, tag, verdict
from review.freshness import findings
from review.gate import exceptions
from review.judgement import compare, has_gpu, param_values
from review.lock import Lock, hashes, weights_of
from review.revision import WORKSPACE, Malformed, Missing, Revision
from review.verdict import OPEN, Verdict
from review.visible import PREPARED, Visible
from stages.common import escape, shards
from stages.common.documents import DocumentError, parse_json
from stages.common.errors import UserError
from stages.common.files import write_text
from stages.common.versions import DATA, data_version

# A year: more than this, a timer of the kernel may not count.
_MOST_MINUTES = 525_600
_RUN = "metrics/run.json"


def main(arguments: argparse.Namespace) -> None:
    """Judge the revision; print the verdict; exit with its code."""
    allowed = {word: reason for text in arguments.allow for word, reason in exceptions(text, OPEN)}
    revision = Revision.named(arguments.revision)
    if revision.commit is None:
        raise UserError(f"reproduce: {WORKSPACE} is not a revision. Commit first; `dvc repro --force` runs it here.")
    if arguments.markdown:
        # The verdict of an earlier run is not to be taken for this one's, whatever happens.
        arguments.markdown.unlink(missing_ok=True)
    found = judge(revision, arguments.stage, confined=not arguments.no_sandbox, minutes=arguments.at_most)
    found = dataclasses.replace(found, allowed=allowed.get(found.word, ""))
    print(verdict.text(str(revision), found))
    if arguments.markdown:
        write_text(arguments.markdown, verdict.markdown(str(revision), found))
    if os.environ.get("GITHUB_ACTIONS") == "true" and (annotation := verdict.annotation(str(revision), found)):
        print(annotation)
    sys.exit(found.exit_code)


def judge(
    revision: Revision, stage: str | None = None, *, confined: bool = True, minutes: float | None = None
) -> Verdict:
    """Run `revision`, or one stage of it, in a clean checkout, and compare with what it claims. `minutes`: after which
    the run is stopped."""
    assert revision.commit is not None
    not_run = []
    try:
        stages = dict(revision.lock["stages"])
        try:
            stages |= claim.fresh_lock(revision)["stages"]
        except Malformed:
            raise
        except Missing as missing:
            not_run = [] if stage or revision.claim_lock is None else [f"test accuracy: {missing}"]
        if revision.export_lock is not None:
            stages = revision.export_lock["stages"] | stages
        if stage is not None and stage not in stages:
            raise UserError(f"--stage {stage}: no such stage in {revision}; expected {', '.join(stages)}.")
        disagreeing = [*findings(revision), *claim.edited(revision), *exported.export_findings(revision)]
        changed = [finding.text for finding in disagreeing]
        changed += tag.disagreements(revision)
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
    judged = [stage] if stage else in_order(lock)
    if "cuda" in param_values(lock, judged, "device") and not has_gpu():
        return Verdict(
            "not comparable",
            "Its params say device: cuda, and PyTorch sees no CUDA GPU here; nothing was run. On a machine with a GPU "
            "this can be checked.",
        )
    with cleanroom.checked_out(revision.commit, confined=confined) as room:
        try:
            with cleanroom.time_limit(None if minutes is None else 60 * minutes):
                found = run_and_compare(revision, lock, room, judged, stage)
        except cleanroom.TimeIsUpError:
            return Verdict(
                "not checked",
                f"The run was not over after {minutes:g} minutes, and was stopped: whether the claim is true is open.",
                [*claimed_time(revision), *not_run],
            )
    return dataclasses.replace(found, particulars=[*found.particulars, *not_run])


def in_order(lock: Lock) -> list[str]:
    """All stages, each after those whose outputs it reads. UserError where they wait for each other."""
    made = {out["path"]: name for name, stage in lock["stages"].items() for out in stage.get("outs", [])}
    waits = {
        name: {
            maker
            for dep in stage.get("deps", [])
            for out, maker in made.items()
            if maker != name and (f"{dep['path']}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep['path']}/"))
        }
        for name, stage in lock["stages"].items()
    }
    try:
        return list(graphlib.TopologicalSorter(waits).static_order())
    except graphlib.CycleError as error:
        raise UserError(
            f"dvc.lock: {' and '.join(error.args[1])} wait for each other. No run of DVC wrote it."
        ) from None


def run_and_compare(
    revision: Revision, lock: Lock, room: cleanroom.Cleanroom, stages: list[str], stage: str | None
) -> Verdict:
    """Bring what the run starts from, run the stages, and compare what is there then."""
    if converted := list(not_as_committed(revision, lock, room)):
        why = "Git checks out other bytes than the commit has, by a .gitattributes; nothing was run."
        return Verdict("different", why, converted)
    missing_data = get_inputs(room.path, lock, stage)
    if missing_data:
        return Verdict("not comparable", "Data is missing.", [missing_data])
    if room.confined:
        cleanroom.seal(room.path)
    say_what_it_sees(revision, confined=room.confined)
    visible = Visible(room, lock, stages)
    for name in stages:
        command = lock["stages"][name]["cmd"]
        print(f"Running stage '{escape.terminal(name)}':\n> {escape.terminal(command)}", file=sys.stderr, flush=True)
        with visible.to(name):
            code = room.run_stage(command)
        if code:
            return Verdict(
                "different",
                f"Stage {name} does not run to its end here: `{command}` exited with {code}. It sees the deps that "
                "dvc.yaml lists for it, and no other data, results and files.",
            )
    return compare(revision, lock, room, stages)


def not_as_committed(revision: Revision, lock: Lock, room: cleanroom.Cleanroom) -> Iterator[str]:
    """Code that the checkout has otherwise than the commit: what is reviewed is not what would run."""
    for path in sorted(path for path in hashes(lock, "deps") if revision.in_git(path)):
        committed = {path: revision.read(path)} if revision.read(path) is not None else {}
        committed |= {f"{path}/{name}": revision.read(f"{path}/{name}") for name in revision.modules(path)}
        yield from (name for name, content in committed.items() if (room.path / name).read_bytes() != content)


def claimed_time(revision: Revision) -> Iterator[str]:
    """What the claim says of its time, as whoever made it could have written anything."""
    try:
        seconds = revision.json(_RUN).get("total_seconds")
    except Missing:
        return
    yield f"{_RUN} says that its training took {seconds} seconds, which nobody has checked"


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
    try:
        # The others are in Git. What DVC keeps must not be there before: its bytes would be those of nobody's run.
        pull(place, [path for path in tracked if path.split("/")[0] in PLACES])
        pull(place, list(shards_of(place, tracked)))
    except AbsentError as absent:
        if absent.paths == [DATA] and data_version(place).name == DVC_MD5:
            write_sample(place / DATA)
            return ""
        without = "" if stage is None else " Without --stage, all stages run."
        return f"{absent}{without}"
    return ""


def shards_of(place: Path, deps: Collection[str]) -> Iterator[str]:
    """The shards with the images of which a stage's deps are the places."""
    description = place / PREPARED / "dataset.json"
    if not description.is_file():
        return
    try:
        digests = parse_json(description.read_bytes())["sha256"]
        names = [f"{PREPARED}/{name}" for name in digests]
    except (DocumentError, KeyError, TypeError) as error:
        raise UserError(f"{PREPARED}/dataset.json: not what prepare writes ({error}).") from None
    yield from sorted(name for name in names if shards.images_of(name) in deps)


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
    verb.add_argument(
        "--at-most", type=minutes, metavar="MINUTES", help="stop the run after so long: the claim is then not checked"
    )
    verb.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the verdict there, for a change request"
    )
    verb.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="VERDICT[,VERDICT]=REASON",
        help=f"exit with 0, and say the reason, where the verdict is one of: {', '.join(OPEN)}",
    )
    verb.set_defaults(run=main)


def minutes(text: str) -> float:
    """A number of minutes. ValueError, which argparse says by this function's name, where it is none."""
    number = float(text)
    if not (math.isfinite(number) and 0 < number <= _MOST_MINUTES):
        raise ValueError(text)
    return number
