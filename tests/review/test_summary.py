"""`make summary` says what the workspace's result is, and how it compares with the committed one."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.project import BIN, edit_params, refusal, run

SUMMARY = [str(BIN / "python"), "-m", "review", "summary"]


def test_a_changed_param_is_given_as_the_reason(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("changed")
    edit_params(folder, lr=0.001)
    run([BIN / "dvc", "repro", "--quiet"], folder)
    text = run(SUMMARY, folder).stdout
    assert "different in 15 of 17 outputs: metrics/evaluate.json" in text
    assert "because these differ: lr: 0.1 → 0.001" in text


def test_another_machine_is_given_as_the_reason(copy_reproduced: Callable[[str], Path]) -> None:
    """Where only bytes differ, the recorded environments are compared."""
    folder = copy_reproduced("machine")
    path = folder / "metrics" / "environment.json"
    committed = json.loads(path.read_text())
    path.write_text(json.dumps(committed | {"cpu": "Abacus 9"}))
    lock = folder / "dvc.lock"
    weights = lock.read_text().split("- path: models/model.safetensors")[1].split("md5: ")[1][:32]
    lock.write_text(lock.read_text().replace(weights, "0" * 32))
    text = run(SUMMARY, folder).stdout
    assert "different in 1 of 17 outputs: models/model.safetensors" in text
    assert f"with the same code, data and params: the machine differs: cpu: {committed['cpu']} → Abacus 9" in text


def test_a_first_result_has_nothing_to_compare_with(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("first")
    run("cp dvc.lock kept && git rm --quiet dvc.lock && git commit --quiet --message none && mv kept dvc.lock", folder)
    assert "none in HEAD to compare with" in run(SUMMARY, folder).stdout


def test_without_a_result(clone: Path) -> None:
    (clone / "metrics" / "evaluate.json").unlink()
    assert "metrics/evaluate.json: no such file. `make repro` makes it." in refusal(run(SUMMARY, clone, expect=1))
