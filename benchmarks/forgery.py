"""What a forger does to a clone: edits of files, of dvc.lock to match, and runs whose traces are then removed."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.startup import ROOT

PYTHON = ROOT / ".venv/bin/python"
DVC = ROOT / ".venv/bin/dvc"
Change = Callable[[Path], object]


class Forgery(NamedTuple):
    """What is done, by what it must be found, and what must be said of it.

    gate       `review diff --gate` refuses it
    review     the gate lets it pass, and the report says it
    reproduce  the gate lets it pass, and `review reproduce` says "different"; of `revision`
    stage      a stage refuses to run
    nobody     all let it pass, and docs/trust.md says so
    """

    name: str
    change: Change
    by: str
    expected: str
    revision: str = "HEAD"


def shell(line: str, **environment: str) -> Change:
    """A line of shell, in the clone."""

    def change(clone: Path) -> None:
        programs = f"PATH={DVC.parent}:$PATH"
        variables = " ".join(f"{name}='{value}'" for name, value in environment.items())
        done = subprocess.run(
            ["bash", "-e", "-c", f"export {programs} {variables}; {line}"], cwd=clone, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"error: {line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    return change


# All stages that are out of date, as an honest author runs them; and DVC told that the workspace is the result.
RUN, COMMIT = shell("dvc repro --quiet"), shell("dvc commit --quiet --force")


def write(path: str, text: str) -> Change:
    def change(clone: Path) -> None:
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)

    return change


def after(path: str, line: str, code: str) -> Change:
    """Insert code behind the first line that begins so, in its block."""

    def change(clone: Path) -> None:
        lines = (clone / path).read_text().splitlines()
        numbers = [number for number, text in enumerate(lines) if text.lstrip().startswith(line)]
        if not numbers:
            sys.exit(f"error: {line} is not in {path}; this benchmark is out of date")
        indent = len(lines[numbers[0]]) - len(lines[numbers[0]].lstrip())
        lines[numbers[0] + 1 : numbers[0] + 1] = [" " * indent + text for text in code.splitlines()]
        (clone / path).write_text("\n".join(lines) + "\n")

    return change


def edit(path: str, old: str, new: str) -> Change:
    def change(clone: Path) -> None:
        text, count = re.subn(old, new, (clone / path).read_text(), count=1, flags=re.MULTILINE)
        if not count:
            sys.exit(f"error: {old} is not in {path}; this benchmark is out of date")
        (clone / path).write_text(text)

    return change


def edit_metric(path: str, **values: object) -> Change:
    def change(clone: Path) -> None:
        content = json.loads((clone / path).read_text()) | values
        (clone / path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    return change


def relocked(change: Change, path: str, lock: str = "dvc.lock") -> Change:
    """The same, and the lock says that the file was so when the stage ran."""

    def forge(clone: Path) -> None:
        change(clone)
        program = f"from review.revision import Revision; print(Revision.named('workspace').hash_of({path!r}))"
        command = [sys.executable, "-c", program]
        md5 = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout.strip()
        pattern = rf"(- path: {path}\n      hash: md5\n      md5: )[\w.]+"
        text, count = re.subn(pattern, rf"\g<1>{md5}", (clone / lock).read_text())
        if not count:
            sys.exit(f"error: {path} is not in {lock}; this benchmark is out of date")
        (clone / lock).write_text(text)

    return forge


def claimed_from(experiment: str, *paths: str) -> Change:
    """dvc.lock claims another experiment's outputs; files in Git are taken from it."""

    def forge(clone: Path) -> None:
        reference = subprocess.run(
            ["git", "for-each-ref", "--format=%(refname)", "refs/exps/"], cwd=clone, capture_output=True, text=True
        ).stdout.split()
        (commit,) = (name for name in reference if name.endswith(f"/{experiment}"))
        show = ["git", "show", f"{commit}:dvc.lock"]
        theirs = subprocess.run(show, cwd=clone, capture_output=True, text=True, check=True).stdout
        lock = (clone / "dvc.lock").read_text()
        for path in paths:
            pattern = rf"- path: {re.escape(path)}\n      hash: md5\n      md5: \w+\n      size: \d+"
            (entry, *_) = re.findall(pattern, theirs)
            lock = re.sub(pattern, entry, lock)
            if path.startswith(("metrics/", "plots/", "models/README")):
                content = subprocess.run(
                    ["git", "show", f"{commit}:{path}"], cwd=clone, capture_output=True, check=True
                ).stdout
                (clone / path).write_bytes(content)
        (clone / "dvc.lock").write_text(lock)

    return forge


def other_data(clone: Path) -> None:
    """data.dvc and dvc.lock name a version in which one image stands under another class."""
    shutil.move(clone / "data/3/0003.png", clone / "data/5/0003.png")
    subprocess.run([DVC, "add", "--quiet", "data"], cwd=clone, check=True, capture_output=True)
    new = re.findall(r"md5: (\w+\.dir)", (clone / "data.dvc").read_text())[0]
    edit("dvc.lock", r"(- path: data\n      hash: md5\n      md5: )[\w.]+", rf"\g<1>{new}")(clone)


def both(*changes: Change) -> Change:
    def forge(clone: Path) -> None:
        for change in changes:
            change(clone)

    return forge
