"""Runs of one recipe are told from their dvc.lock, and several seeds are one claim."""

import argparse
import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from review.seeds import main, recipe, right_answers, seed_of
from review.significance import Prediction
from stages.common.errors import UserError
from tests.project import BIN, edit_params, refusal, run

LOCK = {
    "schema": "2.0",
    "stages": {
        "prepare": {
            "cmd": "python -m stages.prepare",
            "deps": [{"path": "data", "md5": "d1.dir"}, {"path": "stages/prepare", "md5": "c1.dir"}],
            "params": {"params.yaml": {"image_size": 8}, "pyproject.toml": {"dependency-groups.prepare": ["numpy==1"]}},
            "outs": [{"path": "prepared", "md5": "p1.dir"}],
        },
        "train": {
            "cmd": "python -m stages.train.launch",
            "deps": [{"path": "prepared/train-images.npy", "md5": "i1"}, {"path": "stages/train", "md5": "c2.dir"}],
            "params": {
                "params.yaml": {"lr": 0.1, "seed": 0},
                "pyproject.toml": {"dependency-groups.train": ["torch==2"]},
            },
            "outs": [{"path": "models/model.safetensors", "md5": "m1"}],
        },
        "evaluate": {
            "cmd": "python -m stages.evaluate",
            "deps": [{"path": "models/model.safetensors", "md5": "m1"}, {"path": "stages/evaluate", "md5": "c3.dir"}],
            "params": {"params.yaml": {"tta_flip": False}},
            "outs": [{"path": "metrics/evaluate.json", "md5": "e1"}],
        },
    },
}
REVIEW: list[str | Path] = [BIN / "python", "-m", "review"]


def test_a_recipe_is_everything_but_the_seed() -> None:
    """Another seed and what follows from it is the same recipe; another param, code, data, pin or command is not."""
    other: dict[str, Any] = copy.deepcopy(LOCK)
    train = other["stages"]["train"]
    train["params"]["params.yaml"]["seed"] = 7
    train["outs"][0]["md5"] = "0"
    other["stages"]["evaluate"]["deps"][0]["md5"] = "0"
    assert recipe(other) == recipe(LOCK)
    assert (seed_of(LOCK), seed_of(other)) == (0, 7)
    changes: list[Callable[[Any], Any]] = [
        lambda lock: lock["stages"]["train"]["params"]["params.yaml"].update(lr=7),
        lambda lock: lock["stages"]["train"]["params"]["pyproject.toml"].update({"dependency-groups.train": []}),
        lambda lock: lock["stages"]["train"].update(cmd="torchrun"),
        lambda lock: lock["stages"]["prepare"]["deps"][0].update(md5="0"),
        lambda lock: lock["stages"]["evaluate"]["deps"].pop(),
    ]
    for change in changes:
        another = copy.deepcopy(LOCK)
        change(another)
        assert recipe(another) != recipe(LOCK)


def test_right_answers_per_image() -> None:
    """Of images that all runs have under one class."""
    runs = [
        {"a": Prediction("x", "x"), "b": Prediction("x", "y"), "c": Prediction("x", "x")},
        {"a": Prediction("x", "y"), "b": Prediction("x", "y"), "c": Prediction("y", "x")},
    ]
    old, new = right_answers(runs, [{"a": Prediction("x", "x"), "b": Prediction("x", "x"), "d": Prediction("x", "x")}])
    assert np.array_equal(old, [0.5, 0])
    assert np.array_equal(new, [1, 1])


def test_refusals(copy_reproduced: Callable[[str], Path]) -> None:
    """One seed has no spread; a workspace that was not run since its last change has no recipe."""
    folder = copy_reproduced("refused")
    assert "seeds: expected 2 or more" in refusal(run([*REVIEW, "seeds", "1"], folder, expect=1))
    edit_params(folder, lr=0.0001)
    message = refusal(run([*REVIEW, "seeds", "2"], folder, expect=1))
    assert "train: lr was 0.1 in the run, is 0.0001). `dvc repro` first" in message


def test_a_path_that_dvc_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ä").mkdir()
    monkeypatch.chdir(tmp_path / "ä")
    with pytest.raises(UserError, match=r"letters beyond ASCII, which DVC 3\.67 cannot write"):
        main(argparse.Namespace(count=2, jobs=1))


def test_seeds_that_are_there_are_not_run_again(copy_reproduced: Callable[[str], Path]) -> None:
    """Wherever they were run; the summary tells the spread. CONTRIBUTING.md's test does the rest."""
    folder = copy_reproduced("there")
    run([BIN / "dvc", "exp", "run", "--temp", "--quiet", "--set-param", "seed=1"], folder)
    done = run("make seeds N=2", folder)
    assert "running" not in done.stdout
    (spread,) = re.findall(r"^val accuracy (0\.\d+ ± 0\.\d+ \(n=2 seeds\))$", done.stdout, re.MULTILINE)
    assert f"over seeds        val accuracy {spread}" in run("make summary", folder).stdout


def test_a_seed_that_fails(copy_reproduced: Callable[[str], Path]) -> None:
    """What DVC says is shown, and which seed has no result."""
    folder = copy_reproduced("fails")
    (folder / ".dvc/tmp/exps").mkdir(parents=True, exist_ok=True)
    (folder / ".dvc/tmp/exps/standalone").write_text("no folder")
    message = refusal(run([*REVIEW, "seeds", "2"], folder, expect=1))
    assert "seeds: seed 1 failed, `dvc exp run --temp --set-param seed=1`:" in message
    assert "exps/standalone" in message
    assert "no result for 1. The same command runs those that are missing" in message
