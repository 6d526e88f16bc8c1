"""`python -m review reproduce`: an honest claim is identical, a planted one is not, and nothing is left behind."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.project import BIN, COLD, edit_params, run, user_environment

REPRODUCE: list[str | Path] = [BIN / "python", "-m", "review", "reproduce"]


def commit(folder: Path) -> None:
    run("git commit --quiet --all --message claimed", folder)


def relock(folder: Path, path: str) -> None:
    """Make dvc.lock say that a file in Git is as the run wrote it: what a forger would do."""
    md5 = run(["md5sum", path], folder).stdout[:32]
    lock = folder / "dvc.lock"
    text, count = re.subn(rf"(- path: {path}\n      hash: md5\n      md5: )\w+", rf"\g<1>{md5}", lock.read_text())
    assert count
    lock.write_text(text)


def nothing_left(folder: Path) -> None:
    assert not any((folder / ".dvc/tmp/reproduce").iterdir())
    assert len(run("git worktree list", folder).stdout.splitlines()) == 1


def test_an_honest_claim_is_identical(copy_reproduced: Callable[[str], Path]) -> None:
    """Run in a clean checkout, while the workspace holds unfinished work, which stays as it is."""
    folder = copy_reproduced("honest")
    edit_params(folder, lr=0.2)
    shutil.rmtree(folder / "prepared")
    before = run("git status --porcelain --ignored", folder).stdout
    done = run([*REPRODUCE, "HEAD"], folder)
    assert re.fullmatch(r"HEAD \(\w{7}\): identical. 17 of 17 outputs have the same bytes.\n", done.stdout)
    assert run("git status --porcelain --ignored", folder).stdout == before
    nothing_left(folder)
    (folder / "code.py").touch()
    stage = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder)
    assert "identical. 11 of 11 outputs" in stage.stdout
    assert "Running stage 'train'" not in stage.stderr


def test_a_forged_metric_is_different(copy_reproduced: Callable[[str], Path]) -> None:
    """Edited, it is seen without running; with dvc.lock edited to match, by running."""
    folder = copy_reproduced("forged")
    path = folder / "metrics/evaluate.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"accuracy": 0.999}, indent=2) + "\n")
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=1)
    assert "different. Its result is not that of its own code, params and data; nothing was run." in done.stdout
    assert "metrics/evaluate.json: not what evaluate wrote" in done.stdout
    relock(folder, "metrics/evaluate.json")
    commit(folder)
    done = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder, expect=1)
    assert "different. 1 of 11 outputs have other bytes, on the same kind of machine" in done.stdout
    assert "since stage evaluate: metrics/evaluate.json" in done.stdout
    assert f"metrics/evaluate.json: accuracy claimed 0.999, here {metrics['accuracy']}" in done.stdout
    nothing_left(folder)


def test_another_machine_is_consistent_or_not(copy_reproduced: Callable[[str], Path]) -> None:
    """The claim names another CPU, and differs in bytes: judged by predictions and the claimed interval."""
    folder = copy_reproduced("machine")
    environment = folder / "metrics/environment.json"
    environment.write_text(json.dumps(json.loads(environment.read_text()) | {"cpu": "Abacus 9"}))
    card = folder / "models/README.md"
    card.write_text(card.read_text() + "\n")
    for path in ("metrics/environment.json", "models/README.md"):
        relock(folder, path)
    commit(folder)
    done = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder)
    assert "consistent. Other bytes on another kind of machine; the predictions are the same." in done.stdout
    assert re.search(r"machine: cpu Abacus 9 → ", done.stdout)


@pytest.mark.parametrize(("changed", "verdict", "code"), [(1, "consistent", 0), (40, "different", 1)])
def test_another_machine_that_predicts_otherwise(
    copy_reproduced: Callable[[str], Path], changed: int, verdict: str, code: int
) -> None:
    """The claim's predictions differ in one image, or in many more right ones than rounding could make."""
    folder = copy_reproduced("predictions")
    environment = folder / "metrics/environment.json"
    environment.write_text(json.dumps(json.loads(environment.read_text()) | {"cpu": "Abacus 9"}))
    relock(folder, "metrics/environment.json")
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in [row for row in rows if row["class"] == row["predicted"]][:changed]:
        row["predicted"] = "a" if row["class"] != "a" else "b"
    (folder / "predictions.csv").unlink()
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    relock(folder, "predictions.csv")
    md5 = run("md5sum predictions.csv", folder).stdout[:32]
    cached = folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(exist_ok=True)
    shutil.copy(folder / "predictions.csv", cached)
    commit(folder)
    done = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder, expect=code)
    assert f"): {verdict}. " in done.stdout
    assert f"{changed} of {len(rows)} test images changed between right and wrong" in done.stdout


def test_what_cannot_be_told(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """No result; other packages; data that is nowhere: exit code 2, and what to do."""
    folder = copy_reproduced("unknown")
    text = (folder / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(text.replace("safetensors==0.8.0", "safetensors==0.7.9"))
    lock = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(lock.replace("safetensors==0.8.0", "safetensors==0.7.9"))
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=2)
    assert "not comparable. Other packages are installed here" in done.stdout
    assert "safetensors: 0.7.9 in the run, 0.8.0 here" in done.stdout
    run("git rm --quiet dvc.lock && git commit --quiet --message none", folder)
    assert "not comparable. It claims nothing." in run([*REPRODUCE, "HEAD"], folder, expect=2).stdout
    colleague = tmp_path / "colleague"
    run(["git", "clone", "--quiet", folder, colleague], tmp_path)
    run("git checkout --quiet HEAD~2", colleague)
    version = yaml.safe_load((colleague / "data.dvc").read_text())["outs"][0]["md5"]
    run(["sed", "--in-place", f"s/{version}/{'0' * 32}.dir/", "data.dvc", "dvc.lock"], colleague)
    commit(colleague)
    done = run([*REPRODUCE, "HEAD"], colleague, expect=2)
    assert "not comparable. Data is missing" in done.stdout
    assert "data/: in neither DVC's cache nor the remote" in done.stdout
    nothing_left(colleague)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted(copy_reproduced: Callable[[str], Path], number: signal.Signals) -> None:
    """Told to stop, it cleans up; killed, the next one does."""
    folder = copy_reproduced("interrupted")
    command = [COLD / "bin/python", *REPRODUCE[1:], "HEAD"]
    process = subprocess.Popen(command, cwd=folder, env=user_environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Running stage" in line:
            break
    os.kill(process.pid, number)
    process.communicate()
    if number == signal.SIGTERM:
        assert process.returncode == 130
    else:
        assert len(run("git worktree list", folder).stdout.splitlines()) == 2
        run("git worktree prune", folder)
        done = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder)
        assert "left by a killed run" in done.stderr
    nothing_left(folder)
