"""Two dvc.lock files side by side."""

import copy
from typing import Any

from review.lock import compare, weights_of

LOCK: dict[str, Any] = {
    "stages": {
        "prepare": {
            "cmd": "python -m stages.prepare",
            "deps": [{"path": "data", "md5": "d1.dir"}, {"path": "stages/prepare.py", "md5": "c1"}],
            "params": {"params.yaml": {"image_size": 8}, "pyproject.toml": {"dependency-groups.prepare": ["numpy==1"]}},
            "outs": [{"path": "prepared", "md5": "p1.dir"}],
        },
        "train": {
            "cmd": "python -m stages.train",
            "deps": [{"path": "prepared/train-images.npy", "md5": "t1"}],
            "params": {"params.yaml": {"lr": 0.1}},
            "outs": [
                {"path": "models/model.safetensors", "md5": "w1"},
                {"path": "metrics/run.json", "md5": "r1"},
                {"path": "metrics/environment.json", "md5": "e1"},
            ],
        },
    }
}


def test_the_same_lock() -> None:
    comparison = compare(LOCK, copy.deepcopy(LOCK))
    assert comparison.outputs == ["models/model.safetensors", "prepared"]
    assert comparison.different_outputs == []
    assert comparison.different_inputs == []


def test_how_fast_a_run_was_is_no_result() -> None:
    new = copy.deepcopy(LOCK)
    new["stages"]["train"]["outs"][1]["md5"] = "r2"
    new["stages"]["train"]["outs"][2]["md5"] = "e2"
    assert compare(LOCK, new).different_outputs == []


def test_every_kind_of_reason_is_named() -> None:
    """Data, code, params, pins and the command; not the outputs of the stage before, which only pass a reason on."""
    new = copy.deepcopy(LOCK)
    prepare, train = new["stages"]["prepare"], new["stages"]["train"]
    prepare["deps"][0]["md5"] = "d2.dir"
    prepare["deps"][1]["md5"] = "c2"
    prepare["params"]["pyproject.toml"]["dependency-groups.prepare"] = ["numpy==2"]
    prepare["outs"][0]["md5"] = "p2.dir"
    train["deps"][0]["md5"] = "t2"
    train["params"]["params.yaml"] = {"lr": 0.001, "seed": 1}
    train["cmd"] = "torchrun -m stages.train"
    train["outs"][0]["md5"] = "w2"
    comparison = compare(LOCK, new)
    assert comparison.different_outputs == ["models/model.safetensors", "prepared"]
    assert comparison.different_inputs == [
        "data",
        "stages/prepare.py",
        "command of stages.train: python -m stages.train → torchrun -m stages.train",
        "lr: 0.1 → 0.001",
        "pyproject.toml dependency-groups.prepare: ['numpy==1'] → ['numpy==2']",
        "seed: None → 1",
    ]


def test_an_output_that_came_or_went_is_different() -> None:
    new = copy.deepcopy(LOCK)
    new["stages"]["train"]["outs"][0] = {"path": "models/other", "md5": "w1"}
    assert compare(LOCK, new).different_outputs == ["models/model.safetensors", "models/other"]


def test_the_weights_that_training_began_with() -> None:
    """A name of weights, and nothing else that a stranger may have written there."""
    name = f"resnet18-{'0' * 16}"
    for value, expected in ((name, [f"weights/{name}.safetensors"]), ("", []), (f"../{name}", []), (7, []), (None, [])):
        lock = copy.deepcopy(LOCK)
        lock["stages"]["train"]["params"]["params.yaml"]["weights"] = value
        assert weights_of(lock) == expected
    assert weights_of(LOCK) == []
