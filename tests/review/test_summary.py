"""`make summary` says what the workspace's result is, and how it compares with the committed one, from the files."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import BIN, edit_params, refusal, run

SUMMARY = [str(BIN / "python"), "-m", "review", "summary"]
IDENTICAL = "committed result  identical byte for byte (16 of 16 outputs)\n"


def test_an_honest_result(reproduced_clone: Path) -> None:
    metrics = json.loads((reproduced_clone / "metrics/evaluate.json").read_text())
    text = run(SUMMARY, reproduced_clone).stdout
    assert f"val accuracy      {metrics['accuracy']:.4f}, 95 % interval" in text
    assert text.endswith(IDENTICAL)


def test_a_changed_param_is_given_as_the_reason(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("changed")
    edit_params(folder, lr=0.001)
    text = run("make repro", folder).stdout
    assert "different in 14 of 16 outputs: metrics/evaluate.json" in text
    assert "because these differ: lr: 0.1 → 0.001" in text
    # DVC's own advice leads to half a commit.
    assert "Running stage 'evaluate'" in text
    assert "git add dvc.lock" not in text
    assert "`git add . && git commit`" in text
    assert run("git diff --cached --name-only", folder).stdout == ""


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"cpu": "Abacus 9", "arithmetic": "native"},
            r"with the same code, data and params: the machine differs: arithmetic: native → portable, cpu: Abacus 9 →",
        ),
        (
            {"cpu": "Abacus 9", "arithmetic": "portable"},
            r"both runs record portable arithmetic, so that must not happen; please report it\. The machine differs: "
            r"cpu: Abacus 9 →",
        ),
        ({}, r"both runs record portable arithmetic, so that must not happen; please report it\.\n"),
        (None, r"the machines cannot be compared: metrics/environment.json: not JSON in HEAD"),
    ],
    ids=["native", "portable", "same machine", "no record"],
)
def test_other_bytes_of_the_same_inputs(
    reproduced_clone: Path, tmp_path: Path, record: dict[str, str] | None, expected: str
) -> None:
    """What was committed has other weights: the recorded machines are compared."""
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    path, lock = folder / "metrics/environment.json", folder / "dvc.lock"
    here, locked = path.read_text(), lock.read_text()
    path.write_text("" if record is None else json.dumps(json.loads(here) | record))
    weights = locked.split("- path: models/model.safetensors")[1].split("md5: ")[1][:32]
    lock.write_text(locked.replace(weights, "f" * 32))
    run("git commit --quiet --all --message 'another machine'", folder)
    path.write_text(here)
    lock.write_text(locked)
    text = run(SUMMARY, folder).stdout
    assert "different in 1 of 16 outputs: models/model.safetensors\n" in text
    assert re.search(expected, text)


def test_a_first_result_has_nothing_to_compare_with(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("first")
    run("cp dvc.lock kept && git rm --quiet dvc.lock && git commit --quiet --message none && mv kept dvc.lock", folder)
    assert "none in HEAD to compare with" in run(SUMMARY, folder).stdout


def test_a_fresh_clone_has_no_result(reproduced_clone: Path, tmp_path: Path) -> None:
    """What Git lacks is named as not made here."""
    run(["git", "clone", "--quiet", reproduced_clone, tmp_path / "fresh"], tmp_path)
    done = run(SUMMARY, tmp_path / "fresh", expect=1)
    message = refusal(done)
    assert "not made here yet, `make repro` makes them:\n  prepared\n  models/model.json\n" in message
    assert "edited" not in message
    assert "the same dvc.lock, but of its 16 outputs 4 are missing here, and 0 were edited" in done.stdout
    assert ", as recorded; the outputs are not all here\n" in done.stdout
    assert "identical" not in done.stdout


def edit_accuracy(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": 0.98765}, indent=2) + "\n")


def change_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "accuracy edited": ("metrics/evaluate.json", edit_accuracy, "edited", "metrics/evaluate.json"),
    "metrics empty": ("metrics/evaluate.json", lambda path: path.write_text(""), "edited", "metrics/evaluate.json"),
    "metrics not JSON": ("metrics/evaluate.json", lambda path: path.write_text("{"), "edited", "metrics/evaluate.json"),
    "metrics a list": ("metrics/evaluate.json", lambda path: path.write_text("[]"), "edited", "metrics/evaluate.json"),
    "metrics missing": ("metrics/evaluate.json", Path.unlink, "not made here yet", "metrics/evaluate.json"),
    "val missing": ("metrics/train.json", Path.unlink, "not made here yet", "metrics/train.json"),
    "record edited": ("metrics/environment.json", change_last_byte, "edited", "metrics/environment.json"),
    "weights edited": ("models/model.safetensors", change_last_byte, "edited", "models/model.safetensors"),
    "answers edited": ("predictions.csv", change_last_byte, "edited", "predictions.csv"),
    "answers missing": ("predictions.csv", Path.unlink, "not made here yet", "predictions.csv"),
    "a file of a folder edited": ("prepared/val-images.npy", change_last_byte, "edited", "prepared"),
    "a file of a folder missing": ("prepared/val-images.npy", Path.unlink, "edited", "prepared"),
}


@pytest.fixture(scope="module")
def identical_clone(reproduced_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that DVC has hashed once. What a test changes there, it puts back."""
    folder = tmp_path_factory.mktemp("identical") / "project"
    shutil.copytree(reproduced_clone, folder, symlinks=True)
    assert run(SUMMARY, folder).stdout.endswith(IDENTICAL)
    return folder


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_not_the_result(identical_clone: Path, tmp_path: Path, name: str) -> None:
    """A file that is missing, or not what the run wrote, is named; no figure is taken from it."""
    folder = identical_clone
    path, damage, word, output = DAMAGES[name]
    whole = (folder / path).rename(tmp_path / "whole")
    shutil.copy2(whole, folder / path)
    try:
        damage(folder / path)
        done = run(SUMMARY, folder, expect=1)
    finally:
        whole.replace(folder / path)
    assert re.search(rf"\n{word}[^\n]*:\n  {output}$", refusal(done).rstrip())
    assert "identical" not in done.stdout
    for metrics, label in (("metrics/evaluate.json", "val accuracy"), ("metrics/train.json", "best epoch")):
        figure = re.search(rf"(?m)^{label} +([\d.]+|not known: {metrics} is )", done.stdout)
        assert figure is not None
        assert figure[1].startswith("not known") == (path == metrics)


def test_make_repro_mends_what_was_edited(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("mended")
    edit_accuracy(folder / "metrics/evaluate.json")
    (folder / "predictions.csv").unlink()
    assert IDENTICAL in run("make repro", folder).stdout


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: edit_params(folder, lr=0.5), "train: lr was 0.1 in the run, is 0.5"),
        (
            lambda folder: (folder / "stages/evaluate/card.py").write_text("# nothing\n"),
            "evaluate: stages/evaluate was changed since the run",
        ),
    ],
    ids=["param", "code"],
)
def test_a_stale_result_is_not_called_identical(
    reproduced_clone: Path, tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    change(folder)
    text = run(SUMMARY, folder).stdout
    assert (
        f"stale             dvc.lock is not the result of what is here; `make repro` runs it again: {expected}" in text
    )
    assert "committed result  the same 16 outputs, which are stale\n" in text


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("dvc.lock", None, "dvc.lock: not in the working tree. `make repro` makes it."),
        ("dvc.lock", "<<<<<<< HEAD\nstages: {\n", "dvc.lock: not YAML in the working tree"),
        ("params.yaml", "a: [b", "DVC cannot read this project's stages: unable to read: 'params.yaml'"),
        ("dvc.yaml", "stages: [", "DVC cannot read this project's stages: "),
        ("data.dvc", "outs: 1\n", "DVC cannot read this project's stages: './data.dvc'"),
        ("dvc.yaml", "stages:\n  prepare:\n    cmd: true\n    dep: x\n", "DVC cannot read this project's stages"),
    ],
)
def test_what_cannot_be_read(
    reproduced_clone: Path, tmp_path: Path, path: str, content: str | None, expected: str
) -> None:
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    (folder / path).unlink()
    if content is not None:
        (folder / path).write_text(content)
    assert expected in refusal(run(SUMMARY, folder, expect=1))
