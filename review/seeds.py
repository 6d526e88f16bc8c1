"""One experiment under several seeds: `python -m review seeds N` runs them; their results are one claim.

Runs are of one recipe where commands, code, data, packages and all params but `seed` are the same, whatever they are
called and wherever they were run: it is told from their dvc.lock.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from review import children, git
from review.freshness import findings
from review.lock import Lock, hashes
from review.revision import WORKSPACE, Missing, Revision
from review.significance import Prediction
from stages.common import escape
from stages.common.errors import UserError

SEED = "seed"
METRICS = "metrics/evaluate.json"
_VAL = "prepared/val-images.npy"
# Of what a failed run printed, this much is shown.
_SHOWN_CHARACTERS = 3000


def recipe(lock: Lock) -> str:
    """What runs of one recipe have in common: a digest of everything in dvc.lock that was not made, but the seed."""
    stages = lock["stages"].values()
    made = [out["path"] for stage in stages for out in stage.get("outs", [])]
    commands = sorted(stage["cmd"] for stage in stages)
    given = sorted(
        (dep["path"], str(dep.get("md5")))
        for stage in stages
        for dep in stage.get("deps", [])
        if not any(dep["path"] == out or dep["path"].startswith(f"{out}/") for out in made)
    )
    params = [
        {file: {key: value for key, value in values.items() if key != SEED} for file, values in of_stage.items()}
        for of_stage in (stage.get("params", {}) for stage in stages)
    ]
    content = json.dumps([commands, given, params], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def seed_of(lock: Lock) -> Any:
    """The seed of the run that dvc.lock records; None where no stage has one."""
    for stage in lock["stages"].values():
        for values in stage.get("params", {}).values():
            if SEED in values:
                seed = values[SEED]
                return seed if isinstance(seed, int) else str(seed)
    return None


def same_recipe(revision: Revision) -> list[Revision]:
    """`revision` and the experiments in this clone that are the same but for the seed, one for each seed."""
    key = recipe(revision.lock)
    by_seed = {seed_of(revision.lock): revision}
    for name, commit in git.experiments().items():
        other = Revision(name.split("/")[-1], commit, revision.ask_remote)
        try:
            found, seed = _recipe_at(commit)
            if found == key:
                by_seed.setdefault(seed, other)
        except Missing:
            continue  # an experiment that never finished has no result
    return [by_seed[seed] for seed in sorted(by_seed, key=str)]


@cache
def _recipe_at(commit: str) -> tuple[str, Any]:
    """The recipe of a commit, which stays as it is, and its seed: a comparison asks for all experiments several times.
    Raises Missing."""
    lock = Revision(commit, commit).lock
    return recipe(lock), seed_of(lock)


def accuracies(revisions: Sequence[Revision]) -> list[float]:
    """Their val accuracies. Raises Missing."""
    for revision in revisions:
        require_val(revision)
    return [revision.number(METRICS, "accuracy") for revision in revisions]


def measures_val(lock: Lock) -> bool:
    """Whether evaluate measured the val split; before there were claims, it was another one."""
    return _VAL in hashes({"stages": {"": lock["stages"].get("evaluate", {})}}, "deps")


def require_val(revision: Revision) -> None:
    """Missing where evaluate measured another split than val."""
    if not measures_val(revision.lock):
        raise Missing(f"evaluate did not measure the val split in {revision}; nothing is chosen by another one.")


def right_answers(
    old: Sequence[Mapping[str, Prediction]], new: Sequence[Mapping[str, Prediction]]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each image that all runs have under one class, the share of old and of new seeds that are right."""
    first, *others = [*old, *new]
    common = [
        image for image in first if all(image in one and one[image].actual == first[image].actual for one in others)
    ]
    shares = [np.array([[one[image].right for image in common] for one in runs]).mean(0) for runs in (old, new)]
    return shares[0], shares[1]


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation, with the number of seeds."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} (n={len(values)} seeds)"


def main(arguments: argparse.Namespace) -> None:
    """Run the workspace's experiment under seeds 0 to N - 1, as far as they are missing, and sum up.

    UserError where the workspace's dvc.lock is not its result, or a run failed.
    """
    if arguments.count < 2:
        raise UserError(f"seeds: expected 2 or more, for a spread; got {arguments.count}.")
    if not str(Path.cwd()).isascii():
        raise UserError(
            f"seeds: {Path.cwd()} has letters beyond ASCII, which DVC 3.67 cannot write into the configuration of a "
            "temporary copy; so `dvc exp run` works here without --temp and --queue only. Move the project to another "
            "path."
        )
    workspace = Revision.named(WORKSPACE)
    changed = findings(workspace)
    if changed:
        raise UserError(f"seeds: the workspace is not what dvc.lock records ({changed[0].text}). `dvc repro` first.")
    known = [seed_of(one.lock) for one in same_recipe(workspace)]
    wanted = [seed for seed in range(arguments.count) if seed not in known]
    failed: list[str] = []
    if wanted:
        print(f"seeds: running {', '.join(map(str, wanted))}; {arguments.jobs} at a time", flush=True)
        with ThreadPoolExecutor(arguments.jobs) as pool:
            failed = [reason for reason in pool.map(_run_with, wanted) if reason]
    runs = same_recipe(workspace)
    absent = set(wanted) - {seed_of(one.lock) for one in runs}
    if absent:
        raise UserError(
            escape.message("\n".join(failed)) + f"\nseeds: no result for {', '.join(map(str, sorted(absent)))}. "
            "The same command runs those that are missing."
        )
    for one, accuracy in zip(runs, accuracies(runs), strict=True):
        print(escape.message(f"  seed {seed_of(one.lock)}: val accuracy {accuracy:.4f}  {one}"))
    print(f"val accuracy {spread(accuracies(runs))}")


def _run_with(seed: int) -> str:
    """Run the workspace's experiment with this seed, outside of the workspace; why it failed, where it did.

    Not from DVC's queue: a worker of DVC 3.67 may end and leave its experiment waiting or "Running" for ever.
    """
    dvc = Path(sys.executable).with_name("dvc")
    command = ["exp", "run", "--temp", "--set-param", f"{SEED}={seed}"]
    code, printed = _output([dvc, *command])
    if "Unable to acquire lock" in printed:
        print("seeds: another dvc command is running here; waiting for it", file=sys.stderr, flush=True)
        code, printed = _output([dvc, "--wait-for-lock", *command])
    if code == 0:
        print(f"seeds: seed {seed} is done", flush=True)
        return ""
    return f"seeds: seed {seed} failed, `dvc {' '.join(command)}`:\n{printed[-_SHOWN_CHARACTERS:]}"


def _output(command: Sequence[str | Path]) -> tuple[int, str]:
    """The exit code of a command that ends with this process, and what it prints."""
    with children.started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        printed, _ = process.communicate()
    return process.returncode, printed.decode("utf-8", "replace")
