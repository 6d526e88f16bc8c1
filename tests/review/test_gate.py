"""The gate: whatever makes a claim untrue is a reason, named by its kind; nothing else is."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from review.gate import KINDS
from tests.project import BIN, edit_params, refusal, run

GATE: list[str | Path] = [BIN / "python", "-m", "review", "diff", "HEAD", "--gate", "--offline"]


def replace(folder: Path, path: str, old: str, new: str) -> None:
    text = (folder / path).read_text()
    assert text.count(old) >= 1, path
    (folder / path).write_text(text.replace(old, new, 1))


def append(folder: Path, path: str, text: str) -> None:
    with (folder / path).open("a") as stream:
        stream.write(text)


def commit_binary(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"\x7fELF")
    run(["git", "add", "--force", *paths], folder)


def append_stage(folder: Path, text: str) -> None:
    replace(folder, "dvc.yaml", "\nplots:", f"\n  another:\n{text}\n\nplots:")


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a metric": (
        lambda folder: replace(folder, "metrics/evaluate.json", '"accuracy": 0.', '"accuracy": 0.9'),
        "edited: metrics/evaluate.json: not what evaluate wrote",
    ),
    "a curve": (lambda folder: append(folder, "plots/curves.csv", "9,9,9,9,9,9\n"), "edited: plots/curves.csv"),
    "the card": (lambda folder: append(folder, "models/README.md", "Excellent.\n"), "edited: models/README.md"),
    "the environment": (
        lambda folder: replace(folder, "metrics/environment.json", '"cpu"', '"cuda"'),
        "edited: metrics/environment.json",
    ),
    "a metrics file removed": (lambda folder: (folder / "metrics/train.json").unlink(), "edited: metrics/train.json"),
    "a param": (lambda folder: edit_params(folder, lr=0.2), "stale: train: lr was 0.1 in the run, is 0.2"),
    "the launcher": (
        lambda folder: edit_params(folder, launcher="[srun, python]"),
        "stale: train: launcher was ['python']",
    ),
    "code": (
        lambda folder: append(folder, "stages/train/loader.py", "# x\n"),
        "train: stages/train was changed",
    ),
    "code removed": (lambda folder: (folder / "stages/evaluate/card.py").unlink(), "stages/evaluate was changed"),
    "code added": (
        lambda folder: append(folder, "stages/model/new.py", "# x\n"),
        "train: stages/model was changed",
    ),
    "a compiled module beside its source": (
        lambda folder: commit_binary(folder, "stages/train/__pycache__/optimizer.cpython-311.pyc"),
        "unlisted: stages/train/__pycache__/optimizer.cpython-311.pyc: a compiled module, which Python takes in place",
    ),
    "a module with a package's name": (
        lambda folder: commit_binary(folder, "mpmath.py"),
        "unlisted: mpmath.py: Python takes it in place of the package mpmath, whoever imports that",
    ),
    "a package with a module's name": (
        lambda folder: commit_binary(folder, "bisect/__init__.so"),
        "unlisted: bisect: Python takes it in place of the package bisect",
    ),
    "a compiled module alone": (
        lambda folder: commit_binary(folder, "quick.abi3.so"),
        "unlisted: quick.abi3.so: a compiled module",
    ),
    "a record that params contradict": (
        lambda folder: replace(folder, "metrics/environment.json", '"deterministic": true', '"deterministic": false'),
        "edited: metrics/environment.json: deterministic False, but params.yaml says True",
    ),
    "a room removed": (lambda folder: shutil.rmtree(folder / "stages/model"), "stages/model is gone"),
    "data": (
        lambda folder: (folder / "data.dvc").write_text(
            re.sub(r"md5: \w\w", "md5: 00", (folder / "data.dvc").read_text())
        ),
        "… in the run, is 00",
    ),
    "data of another folder": (
        lambda folder: append(folder, "data.dvc", "wdir: docs\n"),
        "unreadable: data.dvc: not a file that `dvc add` wrote, in the working tree (wdir, which review does not",
    ),
    "a pin": (
        lambda folder: replace(folder, "pyproject.toml", "safetensors==0.8.0", "safetensors==0.9.0"),
        "stale: train: pyproject.toml dependency-groups.train was",
    ),
    "a new dependency": (
        lambda folder: replace(folder, "dvc.yaml", "      - stages/train\n", "      - stages/train\n      - LICENSE\n"),
        "stale: train: LICENSE is a dependency since the run",
    ),
    "a dependency less": (
        lambda folder: replace(folder, "dvc.yaml", "      - stages/train\n", ""),
        "stale: train: stages/train is no dependency any more",
    ),
    "a command with another one": (
        lambda folder: replace(
            folder, "dvc.yaml", "stages.evaluate\n", "stages.evaluate && cp a metrics/evaluate.json\n"
        ),
        "command: evaluate: expected `python -m stages.evaluate`, got `python -m stages.evaluate && cp",
    ),
    "the command of a claim": (
        lambda folder: replace(folder, "claim/dvc.yaml", "stages.evaluate.claim\n", "stages.evaluate.other\n"),
        "command: claim: expected `python -m stages.evaluate.claim`, got",
    ),
    "a command within": (
        lambda folder: append_stage(folder, "    cmd: python -m stages.mine $(cp a b)"),
        "command: another: expected `python -m <module>` with its arguments, got",
    ),
    "a stage that is not run": (
        lambda folder: replace(
            folder, "dvc.yaml", "    cmd: python -m stages.evaluate\n", "    cmd: x\n    frozen: true\n"
        ),
        "unreadable: dvc.yaml: not what DVC writes, in the working tree (stages.evaluate: frozen, which review",
    ),
    "near copies": (
        lambda folder: replace(folder, "metrics/prepare.json", '"near_duplicates": 0', '"near_duplicates": 3'),
        "near-duplicates: 3 images of train or val are nearly the same as one of val or test, 0 in base",
    ),
    "a metrics file of nobody's": (
        lambda folder: [(folder / "metrics/best.json").write_text("{}"), run("git add metrics", folder)],
        "undeclared: metrics/best.json: no stage of dvc.yaml writes it",
    ),
    "a metric beside the stages": (
        lambda folder: append(folder, "dvc.yaml", "\nmetrics:\n  - docs/best.json\n"),
        "undeclared: docs/best.json: no stage",
    ),
    "a stage never run": (
        lambda folder: append_stage(folder, "    cmd: python -m stages.mine --epochs=3"),
        "no-result: another: declared in dvc.yaml, but never run",
    ),
}


# Those of one clone, in this order, each with a reason of its own; the others are alone.
TOGETHER = [
    ("a metric", "a curve", "the card", "the environment", "near copies", "a metrics file of nobody's"),
    ("a param", "the launcher", "code", "data", "a pin", "a stage never run", "a metrics file removed"),
    ("code removed", "code added", "a new dependency", "a dependency less", "a metric beside the stages"),
    ("a compiled module beside its source", "a module with a package's name", "a compiled module alone"),
    ("a package with a module's name", "a record that params contradict"),
    ("a command with another one", "the command of a claim", "a command within"),
]
ALONE: list[tuple[str, ...]] = [(name,) for name in TAMPERINGS if not any(name in names for names in TOGETHER)]


@pytest.mark.parametrize("names", TOGETHER + ALONE, ids=", ".join)
def test_what_the_run_did_not_make(reproduced_clone: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    for name in names:
        TAMPERINGS[name][0](folder)
    message = refusal(run(GATE, folder, expect=1))
    assert [name for name in names if TAMPERINGS[name][1] not in message] == []


def test_an_honest_result_passes(reproduced_clone: Path) -> None:
    done = run(GATE, reproduced_clone)
    assert "gate: passed" in done.stderr
    assert "**Passed.**" in done.stdout


def test_an_exception_is_stated_in_the_report(reproduced_clone: Path, tmp_path: Path) -> None:
    """It lets its own kind pass, with its reason, and no other."""
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    append(folder, "stages/train/loader.py", "# x\n")
    done = run([*GATE, "--allow", "stale=a comment"], folder)
    assert "| allowed: a comment |" in done.stdout
    append(folder, "models/README.md", "Excellent.\n")
    assert "gate: 1 reason against\n  edited: models/README.md" in refusal(
        run([*GATE, "--allow", "stale=a comment"], folder, expect=1)
    )
    for wrong in ("stale", "stale= ", "other=reason"):
        message = refusal(run([*GATE, "--allow", wrong], folder, expect=1))
        assert all(kind in message for kind in KINDS)


def test_outputs_that_the_remote_lacks(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """Told in the clone that made them and in one without a cache; a folder of this clone is no place to share."""
    folder = copy_reproduced("unpushed")
    asking = [part for part in GATE if part != "--offline"]
    assert "unpushed: the default remote is dvc-storage/, a folder of this clone" in refusal(
        run(asking, folder, expect=1)
    )
    (tmp_path / "storage").mkdir()
    run([BIN / "dvc", "remote", "modify", "local", "url", tmp_path / "storage"], folder)
    run("git commit --quiet --all --message storage", folder)
    run(["git", "clone", "--quiet", folder, tmp_path / "runner"], tmp_path)
    for place in (folder, tmp_path / "runner"):
        message = refusal(run(asking, place, expect=1))
        assert "unknown" not in message
        assert "unpushed: models/model.safetensors: not in the remote; `dvc push` sends it" in message
    run([BIN / "dvc", "push"], folder)
    for place in (folder, tmp_path / "runner"):
        done = run(asking, place)
        assert "gate: passed" in done.stderr
        assert "**The same answers on" in done.stdout


def test_another_test_set(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """Drawn by another seed: the verdict says so, and so does the gate, also where the manifests cannot be had."""
    folder = copy_reproduced("drawn")
    edit_params(folder, split_seed=5)
    run([BIN / "dvc", "repro", "--quiet", "prepare"], folder)
    done = run(GATE, folder, expect=1)
    (said,) = re.findall(
        r"\*\*.* The test set changed: (\d+) images added, (\d+) removed, 0 of another class\.", done.stdout
    )
    assert int(said[0]) > 9
    assert f"test-changed: the test set changed: {said[0]} images added" in done.stderr
    run("git checkout --quiet -b drawn && git commit --quiet --all --message drawn", folder)
    run(["git", "clone", "--quiet", folder, tmp_path / "runner"], tmp_path)
    command = [part if part != "HEAD" else "origin/main" for part in GATE]
    message = refusal(run(command, tmp_path / "runner", expect=1))
    assert "test-changed: split_seed changed, and whether the test images did cannot be told: prepared" in message


def test_a_significant_loss(copy_reproduced: Callable[[str], Path]) -> None:
    """An honest run that is worse; the other way round it is better, and passes."""
    folder = copy_reproduced("loss")
    edit_params(folder, lr=0.0001)
    run([BIN / "dvc", "repro", "--quiet"], folder)
    run("git checkout --quiet -b worse && git commit --quiet --all --message worse", folder)
    command = ["main" if part == "HEAD" else part for part in GATE]
    done = run(command, folder, expect=1)
    assert "loss: accuracy 0." in refusal(done)
    assert "**Worse: accuracy -" in done.stdout
    done = run([*command[:4], "worse", "main", "--gate", "--offline"], folder)
    assert "**Better: accuracy +" in done.stdout
