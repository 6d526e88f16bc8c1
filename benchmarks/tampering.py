"""Whether forged results are found: `.venv/bin/python -m benchmarks.tampering`.

In a throw-away clone of HEAD, each of 30 edits and of the cheats in benchmarks/cheats.py is committed; it must be found
by what is written beside it, with the words that are. Those that edit dvc.lock to match, as a forger would, only a run
can tell. What nobody can tell is stated in docs/trust.md.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.cheats import CHEATS
from benchmarks.edits import EDITS
from benchmarks.forgery import DVC, PYTHON, Forgery
from benchmarks.startup import ROOT

TRUST = ROOT / "docs/trust.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tampering", description="Forged results: how many are found, and by what."
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their name")
    only = parser.parse_args().only
    forgeries = [one for one in [*EDITS, *CHEATS] if only in one.name]
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "project")
        make_honest(clone)
        for number, forgery in enumerate(forgeries, 1):
            reset(clone)
            by, answer = judge(clone, forgery)
            right = by == forgery.by and forgery.expected in answer
            found[by] += right
            verdict = f"{by}: {forgery.expected}" if right else f"NOT AS EXPECTED; by {by}:\n{answer}"
            print(f"{number:2} {forgery.name}: {verdict}", flush=True)
    print(
        f"as expected: {found.total()} of {len(forgeries)}; {', '.join(f'{by} {n}' for by, n in found.most_common())}"
    )
    sys.exit(found.total() < len(forgeries))


def make_honest(clone: Path) -> None:
    """A clone with an honest result and claim, and two experiments whose outputs a forger may claim as others'."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    for name, value in (("user.name", "author"), ("user.email", "author@localhost")):
        subprocess.run(["git", "config", name, value], cwd=clone, check=True)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    for target in ("repro", "claim"):
        subprocess.run(["make", "--quiet", target], cwd=clone, check=True, capture_output=True)
        subprocess.run(["git", "add", "claim"], cwd=clone, check=True)
        subprocess.run(
            ["git", "commit", "--quiet", "--all", "--allow-empty", "--message", target], cwd=clone, check=True
        )
    subprocess.run(["git", "tag", "honest"], cwd=clone, check=True)
    print(f"honest: {said(clone, 'reproduce', 'HEAD').splitlines()[0]}", flush=True)
    for change in ("seed=1", "lr=0.02"):
        experiment = ["--name", change.replace("=", "-"), "--set-param", change]
        subprocess.run([DVC, "exp", "run", "--temp", *experiment], cwd=clone, check=True, capture_output=True)


def judge(clone: Path, forgery: Forgery) -> tuple[str, str]:
    """By what the forgery is found, and what is said of it."""
    try:
        forgery.change(clone)
    except SystemExit as refusal:
        return "stage", str(refusal)
    subprocess.run(["git", "add", "--all"], cwd=clone, check=True)
    commit = ["git", "commit", "--quiet", "--allow-empty", "--message", forgery.name]
    subprocess.run(commit, cwd=clone, check=True)
    report = said(clone, "diff", "honest", "HEAD", "--gate", "--offline")
    if "gate: passed" not in report:
        return "gate", report
    again = said(clone, "reproduce", forgery.revision)
    if ": identical." not in again:
        return "reproduce", again
    if forgery.by == "nobody":
        return "nobody", TRUST.read_text(encoding="utf-8")
    return "review", f"{report}{again}"


def said(clone: Path, *arguments: str) -> str:
    """What review prints, without the stages' own lines."""
    done = subprocess.run([PYTHON, "-m", "review", *arguments], cwd=clone, capture_output=True, text=True)
    return done.stdout + (done.stderr if arguments[0] == "diff" else "")


def reset(clone: Path) -> None:
    """The honest commit, and its data and outputs."""
    for command in (
        "git reset --quiet --hard honest",
        "git clean --quiet --force --force -d",
        f"{DVC} checkout --quiet --force",
    ):
        subprocess.run(command.split(), cwd=clone, check=True)


if __name__ == "__main__":
    main()
