"""The model's two files belong together, and what is not them is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from stages.common.errors import UserError
from stages.common.params import load as load_params
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import MODEL, WEIGHTS, load_trained, save_trained
from stages.prepare import __main__ as prepare
from stages.train import __main__ as train
from stages.train.params import TrainParams
from tests.project import edit_params


@pytest.fixture
def trained(image_workspace: Path) -> Path:
    prepare.main()
    train.main()
    return image_workspace


def edit_description(**changes: object) -> None:
    MODEL.write_text(json.dumps(json.loads(MODEL.read_text()) | changes))


def train_again_for_the_weights_only(**changes: object) -> None:
    kept = MODEL.read_bytes()
    edit_params(Path(), **changes)
    train.main()
    MODEL.write_bytes(kept)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: WEIGHTS.unlink(), "model.safetensors: no such file"),
        (lambda: WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:-9]), "model.safetensors: not a whole safetensors file"),
        (lambda: WEIGHTS.write_bytes(b""), "model.safetensors: not a whole safetensors file"),
        (lambda: WEIGHTS.write_bytes(b"\x80\x04pickle"), "model.safetensors: not a whole safetensors file"),
        (lambda: torch.save({"weight": torch.zeros(3)}, WEIGHTS), "model.safetensors: not a whole safetensors file"),
        (
            lambda: save_file({"weight": torch.zeros(3)}, WEIGHTS),
            "not what train wrote with model.safetensors",
        ),
        (lambda: MODEL.unlink(), "model.json: no such file"),
        (lambda: MODEL.write_text("{"), "model.json: not readable as JSON"),
        (lambda: MODEL.write_text("[]"), "model.json: expected a JSON object"),
        (lambda: edit_description(classes=["dog", "cat", "owl"]), "edited or is of another run"),
        (lambda: edit_description(architecture="resnet9"), "edited or is of another run"),
        (lambda: train_again_for_the_weights_only(seed=1), "edited or is of another run"),
        (lambda: train_again_for_the_weights_only(model="resnet9"), "edited or is of another run"),
    ],
)
def test_what_is_not_a_trained_model(trained: Path, change: Callable[[], object], expected: str) -> None:
    change()
    with pytest.raises(UserError) as caught:
        load_trained()
    assert expected in str(caught.value)
    assert "`dvc repro train` makes it" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("classes", None, "no key 'classes'"),
        ("image_size", "8", "not what train wrote"),
        ("params", 7, "not what train wrote"),
    ],
)
def test_a_description_that_lacks_something(trained: Path, key: str, value: object, expected: str) -> None:
    """The two files agree, but the description lacks what is needed."""
    tensors = load(WEIGHTS.read_bytes())
    content = json.loads(MODEL.read_text())
    if value is None:
        del content[key]
    else:
        content[key] = value
    MODEL.write_text(json.dumps(content))
    from stages.model.trained import _DIGEST, _sha256

    save_file(tensors, WEIGHTS, {_DIGEST: _sha256(MODEL)})
    with pytest.raises(UserError, match=expected):
        load_trained()


def test_logits_that_are_not_finite(trained: Path) -> None:
    params, info = load_params(TrainParams), load_info()
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in load(WEIGHTS.read_bytes()).items()}
    save_trained(tensors, info, params.model_dump(), 1, 0.5)
    runtime = setup(params)
    test = Split.load("test", info, runtime.device)
    with pytest.raises(UserError, match="logits that are not finite"):
        load_trained().to(runtime.device).logits(test.batches(8), runtime)


def test_both_files_moved_together(trained: Path, tmp_path: Path) -> None:
    shutil.copytree("models", tmp_path / "elsewhere")
    there, here = load_trained(tmp_path / "elsewhere"), load_trained()
    assert there.info == here.info == load_info()
    for one, other in zip(there.network.parameters(), here.network.parameters(), strict=True):
        assert torch.equal(one, other)
