"""What reads an exported model needs no PyTorch, and refuses by name what `make export` did not write."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.common.errors import UserError
from stages.onnx.classifier import load
from stages.onnx.description import KEY, MADE_OF, Description
from stages.onnx.sealed import read_sealed, seal
from tests.project import ROOT

INFO = Description(
    architecture="simplenet",
    classes=["cat", "dog"],
    channels=1,
    image_size=2,
    stored_size=2,
    resize="crop",
    tta_flip=False,
    opset=18,
    versions={"torch": "2.11.0"},
    sha256=dict.fromkeys(MADE_OF, "0" * 64),
    pretrained=None,
)


def model_of(description: str, *, classes: int = 2, batch: int | str = "batch") -> onnx.ModelProto:
    """A graph whose logits are the sum of the values, and minus that."""
    weights = np.array([[1, -1, 0][:classes]] * 4, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["numbers"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ],
        "sum",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 2, 2, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key=KEY, value=description)
    return model


def write(path: Path, model: onnx.ModelProto) -> None:
    path.write_bytes(seal(model.SerializeToString()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An exported model."""
    path = tmp_path / "model.onnx"
    write(path, model_of(INFO.to_json()))
    return path


def test_an_exported_model_says_what_it_is_and_answers(path: Path) -> None:
    classifier = load(path, 1)
    assert classifier.info == INFO
    rows = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    assert classifier.logits(rows).tolist() == [[6, -6], [22, -22], [38, -38]]
    assert classifier.logits(rows).dtype == np.float64
    for wrong in (rows[..., :0], rows.astype(np.float32), rows[:, :1]):
        with pytest.raises(ValueError, match="expected uint8 N×2×2×1"):
            classifier.logits(wrong)
    # Other tools for ONNX read it too.
    onnx.checker.check_model(onnx.load(path))


def edit(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Edit it with another program, which leaves the rest as it is."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def relabel(model: onnx.ModelProto) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = json.dumps(json.loads(entry.value) | {"classes": ["dog", "cat"]})


def other_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 2), np.float32), "weights"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.unlink(), "no such file. `make export` writes it"),
        (lambda path: (path.unlink(), path.mkdir()), "expected an ONNX file, got a folder"),
        (lambda path: path.write_bytes(b""), "expected a whole ONNX file that `make export` wrote"),
        (lambda path: path.write_bytes(b"\x80\x04pickle" * 99), "expected a whole ONNX file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "expected a whole ONNX file"),
        (lambda path: onnx.save(model_of(INFO.to_json()), path), "expected a whole ONNX file"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"cat", b"cow")),
            "labels, graph or weights were edited",
        ),
        (lambda path: edit(path, relabel), "labels, graph or weights were edited"),
        (lambda path: edit(path, other_weights), "labels, graph or weights were edited"),
        (lambda path: path.write_bytes(seal(b"\xff" * 99)), "onnxruntime [0-9.]+ cannot use it"),
        (lambda path: write(path, model_of("{")), "description in its metadata: "),
        (lambda path: write(path, model_of(INFO.to_json(), classes=3)), "its graph does not fit its description"),
        (lambda path: write(path, model_of(INFO.to_json(), batch=2)), r"its graph does not fit .*got .*2×2×2×1"),
        (lambda path: path.with_name("model.json").write_text("{}"), "exported from another model than the one beside"),
    ],
)
def test_refusals(path: Path, change: Callable[[Path], object], expected: str) -> None:
    change(path)
    with pytest.raises(UserError, match=expected) as caught:
        load(path, 1)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["cat"]),
        ("classes", ["cat", "cat"]),
        ("classes", ["cat", "<b>"]),
        ("classes", ["cat", 3]),
        ("channels", 2),
        ("image_size", True),
        ("stored_size", 1),
        ("tta_flip", 0),
        ("resize", None),
        ("versions", {"torch": 2}),
        ("sha256", {"../model.json": "0"}),
        ("pretrained", "ImageNet"),
        ("colour", "red"),
    ],
)
def test_descriptions_that_are_refused(path: Path, key: str, value: Any) -> None:
    write(path, model_of(json.dumps(asdict(INFO) | {key: value})))
    with pytest.raises(UserError, match=f"description in its metadata: (keys: .*)?'?{key}"):
        load(path, 1)


def test_a_description_is_read_as_it_was_written() -> None:
    info = replace(INFO, classes=["Ä b", "猫"], pretrained={"licence": "MIT", "mean": [0.5]})
    assert Description.from_json(info.to_json()) == info


def test_logits_that_are_no_numbers(path: Path) -> None:
    model = model_of(INFO.to_json())
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 2), np.inf, np.float32), "weights"))
    write(path, model)
    with pytest.raises(UserError, match=r"model\.onnx: the model gives logits that are not finite"):
        load(path, 1).logits(np.ones((1, 2, 2, 1), np.uint8))


def test_it_needs_the_packages_of_the_service_alone(path: Path) -> None:
    """No PyTorch, and nothing that is for training, DVC, the schemas or writing ONNX."""
    code = f"""
import sys
for name in ("torch", "pydantic", "yaml", "dvc", "safetensors", "scipy", "onnx", "onnxscript"):
    sys.modules[name] = None
from pathlib import Path
from stages.common.softmax import softmax
from stages.onnx.classifier import load
print(load(Path({str(path)!r}), 1).info.classes)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['cat', 'dog']\n"


def test_read_sealed_returns_all_that_was_written(path: Path) -> None:
    assert read_sealed(path) == path.read_bytes()
