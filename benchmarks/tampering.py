"""Whether forged results are caught: `.venv/bin/python -m benchmarks.tampering`.

In a throw-away clone of HEAD, each of 30 tamperings is committed; `review diff --gate` and, where it sees nothing,
`review reproduce` must refuse it with the reason that is written beside it. Those that edit dvc.lock to match, as a
forger would, only a run can tell. What neither can tell is stated in docs/trust.md.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.startup import ROOT

PYTHON = ROOT / ".venv/bin/python"
DVC = ROOT / ".venv/bin/dvc"


class Tampering(NamedTuple):
    """What is done, and what must be said of it."""

    name: str
    change: Callable[[Path], object]
    expected: str


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m benchmarks.tampering", description="30 forged results: how many are caught, and why."
    ).parse_args()
    caught = 0
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "project")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        subprocess.run(["make", "--quiet", "repro"], cwd=clone, check=True, capture_output=True)
        subprocess.run(["git", "commit", "--quiet", "--all", "--message", "honest"], cwd=clone)
        subprocess.run(["make", "--quiet", "claim"], cwd=clone, check=True, capture_output=True)
        subprocess.run(["git", "add", "claim"], cwd=clone, check=True)
        subprocess.run(["git", "commit", "--quiet", "--all", "--message", "honest"], cwd=clone)
        subprocess.run(["git", "tag", "honest"], cwd=clone, check=True)
        honest = said(clone, "reproduce", "HEAD")
        print(f"honest: {honest.splitlines()[0]}", flush=True)
        # Experiments whose outputs a forger may claim for this commit.
        for change in ("seed=1", "lr=0.02"):
            experiment = ["--name", change.replace("=", "-"), "--set-param", change]
            subprocess.run([DVC, "exp", "run", "--temp", *experiment], cwd=clone, check=True, capture_output=True)
        for number, tampering in enumerate(TAMPERINGS, 1):
            reset(clone)
            tampering.change(clone)
            subprocess.run(["git", "add", "--all"], cwd=clone, check=True)
            subprocess.run(["git", "commit", "--quiet", "--message", tampering.name], cwd=clone, check=True)
            answer, by = said(clone, "diff", "honest", "HEAD", "--gate", "--offline"), "gate"
            if "gate: passed" in answer:
                answer, by = said(clone, "reproduce", "HEAD"), "reproduce"
            right = tampering.expected in answer
            caught += right
            verdict = f"caught by {by}" if right else f"NOT CAUGHT as expected; {by} says:\n{answer}"
            print(f"{number:2} {tampering.name}: {verdict}", flush=True)
    print(f"caught {caught} of {len(TAMPERINGS)}")
    sys.exit(caught < len(TAMPERINGS))


def said(clone: Path, *arguments: str) -> str:
    """What review prints, without the stages' own lines."""
    done = subprocess.run([PYTHON, "-m", "review", *arguments], cwd=clone, capture_output=True, text=True)
    return done.stdout + (done.stderr if arguments[0] == "diff" else "")


def reset(clone: Path) -> None:
    subprocess.run(["git", "reset", "--quiet", "--hard", "honest"], cwd=clone, check=True)
    subprocess.run(["git", "clean", "--quiet", "--force", "-d"], cwd=clone, check=True)


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        text, count = re.subn(old, new, (clone / path).read_text(), count=1, flags=re.MULTILINE)
        if not count:
            sys.exit(f"error: {old} is not in {path}; this benchmark is out of date")
        (clone / path).write_text(text)

    return change


def edit_metric(path: str, **values: float) -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        content = json.loads((clone / path).read_text()) | values
        (clone / path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    return change


def relocked(change: Callable[[Path], None], path: str, lock: str = "dvc.lock") -> Callable[[Path], None]:
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


def claimed_from(experiment: str, *paths: str) -> Callable[[Path], None]:
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


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def forge(clone: Path) -> None:
        for change in changes:
            change(clone)

    return forge


EVALUATE, ENVIRONMENT = "metrics/evaluate.json", "metrics/environment.json"
TAMPERINGS = [
    Tampering("accuracy edited", edit_metric(EVALUATE, accuracy=0.9999), f"edited: {EVALUATE}: not what evaluate"),
    Tampering("val accuracy edited", edit_metric("metrics/train.json", val_accuracy=1.0), "edited: metrics/train.json"),
    Tampering("image counts edited", edit("metrics/prepare.json", r"\d+", "9999"), "edited: metrics/prepare.json"),
    Tampering("curve edited", edit("plots/curves.csv", r"^12,", "13,"), "edited: plots/curves.csv"),
    Tampering("card edited", edit("models/README.md", "accuracy", "Accuracy"), "edited: models/README.md"),
    Tampering("GPU claimed", edit("metrics/environment.json", '"cpu"', '"cuda"'), "edited: metrics/environment.json"),
    Tampering("param edited after the run", edit("params.yaml", r"^lr: .*", "lr: 0.2"), "train: lr was 0.1 in the run"),
    Tampering("code edited after the run", edit("stages/train/augment.py", r"\Z", "# x\n"), "stages/train was changed"),
    Tampering("other data named", edit("data.dvc", r"md5: \w", "md5: 0"), "prepare: data was 72e131e0cd… in the run"),
    Tampering(
        "another package pinned", edit("pyproject.toml", r"numpy==2\.4", "numpy==2.3"), "stale: prepare: pyproject"
    ),
    Tampering(
        "launcher edited",
        edit("params.yaml", "^launcher: .*", "launcher: [srun, python]"),
        "train: launcher was ['python",
    ),
    Tampering("dependency hidden", edit("dvc.yaml", r"      - stages/train\n", ""), "stages/train is no dependency"),
    Tampering(
        "accuracy edited, dvc.lock too",
        relocked(edit_metric(EVALUATE, accuracy=0.9999), EVALUATE),
        f"edited: {EVALUATE}: accuracy 0.9999 on",
    ),
    Tampering(
        "val accuracy edited, dvc.lock too",
        relocked(edit_metric("metrics/train.json", val_accuracy=1.0), "metrics/train.json"),
        "since stage train: metrics/train.json",
    ),
    Tampering(
        "param edited, dvc.lock too",
        both(
            edit("params.yaml", "^weight_decay: .*", "weight_decay: 0.01"),
            edit("dvc.lock", "weight_decay: .*", "weight_decay: 0.01"),
        ),
        "since stage train: metrics/train.json, models/model.json, models/model.safetensors",
    ),
    Tampering(
        "code edited, dvc.lock too",
        relocked(edit("stages/train/optimizer.py", r'\["lr"\] = lr', '["lr"] = lr * 0.9'), "stages/train"),
        "since stage train: ",
    ),
    Tampering(
        "weights of another seed",
        claimed_from("seed-1", "models/model.safetensors", "models/model.json"),
        "since stage train: models/model.json, models/model.safetensors",
    ),
    Tampering(
        "predictions of another run",
        claimed_from("lr-0.02", "predictions.csv"),
        "since stage evaluate: predictions.csv",
    ),
    Tampering(
        "metrics of another run",
        claimed_from("seed-1", EVALUATE, "plots/per_class.csv", "plots/confusion.csv"),
        f"since stage evaluate: {EVALUATE}, plots/",
    ),
    Tampering("an image under another class, dvc.lock too", other_data, "since stage prepare: "),
    Tampering(
        "command wrapped, dvc.lock too",
        both(*(edit(file, "(stages.evaluate)$", r"\1 \&\& cp a b") for file in ("dvc.yaml", "dvc.lock"))),
        "command: evaluate: expected `python -m stages.evaluate`, got",
    ),
    Tampering(
        "another module as a stage, dvc.lock too",
        both(*(edit(file, "stages.evaluate$", "stages.model.evaluate") for file in ("dvc.yaml", "dvc.lock"))),
        "command: evaluate: expected `python -m stages.evaluate`, got",
    ),
    Tampering(
        "stage frozen", edit("dvc.yaml", "^    cmd: python -m stages.train.*", r"\g<0>\n    frozen: true"), "frozen"
    ),
    Tampering(
        "metric of no stage", lambda clone: (clone / "metrics/best.json").write_text("{}"), "undeclared: metrics/best"
    ),
    Tampering(
        "test fraction, dvc.lock too",
        both(
            edit("params.yaml", "^test_fraction: .*", "test_fraction: 0.1"),
            edit("dvc.lock", "test_fraction: .*", "test_fraction: 0.1"),
        ),
        "since stage prepare: ",
    ),
    Tampering(
        "claim edited", edit_metric("claim/test.json", accuracy=0.9999), "edited: claim/test.json: not what claim"
    ),
    Tampering(
        "claim removed, its lock kept", lambda clone: (clone / "claim/test.json").unlink(), "edited: claim/test.json"
    ),
    Tampering(
        "claimed accuracy edited, its lock too",
        relocked(edit_metric("claim/test.json", accuracy=0.9999), "claim/test.json", "claim/dvc.lock"),
        "edited: claim/test.json: accuracy 0.9999 on",
    ),
    Tampering(
        "another machine claimed, dvc.lock too",
        both(
            relocked(
                edit("metrics/environment.json", '"cpu_capability": "[^"]*"', '"cpu_capability": "NEON"'), ENVIRONMENT
            ),
            relocked(edit_metric(EVALUATE, accuracy=0.9999), EVALUATE),
        ),
        "edited: metrics/evaluate.json: accuracy 0.9999 on",
    ),
    Tampering(
        "runs that the model was chosen from",
        edit("claim/chosen.json", r'"runs": \d+', '"runs": "one"'),
        "unreadable: claim/chosen.json: runs: expected a number",
    ),
]


if __name__ == "__main__":
    main()
