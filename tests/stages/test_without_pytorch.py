"""What serves a model reads pictures as prepare does, and predict uses an exported model, with the few packages of the
group `serve`."""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from stages import predict
from stages.common import tables
from stages.common.errors import UserError
from stages.common.softmax import softmax
from stages.onnx.classifier import INPUT, OUTPUT
from stages.onnx.description import KEY, MADE_OF, Description
from stages.onnx.sealed import seal
from stages.prepare.picture import decode, to_square
from stages.prepare.resize import by_torch
from tests.few_packages import packages_left_out, without
from tests.project import ROOT, refusal, run

CLASSES = ["crow", "owl", "rook"]


def write_linear_model(path: Path, weights: np.ndarray) -> None:
    """As `make export` writes it: the products of 8×8 pixels with `weights`, 192×3, are the logits."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["numbers"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], [OUTPUT]),
        ],
        "linear",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    digests = dict.fromkeys(MADE_OF, "0" * 64)
    description = Description("linear", CLASSES, 3, 8, 8, "pad", False, 18, {}, digests, None)
    model.metadata_props.add(key=KEY, value=description.to_json())
    path.write_bytes(seal(model.SerializeToString()))


def test_pictures_are_read_without_the_training_packages(tmp_path: Path) -> None:
    """To the bytes of prepare."""
    left_out = packages_left_out()
    assert {"torch", "pydantic", "dvc", "yaml", "pathspec"} <= left_out
    assert {"numpy", "PIL", "simplejpeg"}.isdisjoint(left_out)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.jpg")
    code = without(left_out) + (
        "import numpy; from stages.prepare import jpeg, kinds, listing, png, reader; "
        "from stages.prepare.picture import decode, to_square; "
        "picture = decode(open(sys.argv[1], 'rb').read()); numpy.save(sys.argv[2], to_square(picture.rgb, 32, 'crop'))"
    )
    run([sys.executable, "-c", code, tmp_path / "picture.jpg", tmp_path / "square.npy"], ROOT)
    picture = decode((tmp_path / "picture.jpg").read_bytes())
    assert np.array_equal(np.load(tmp_path / "square.npy"), to_square(picture.rgb, 32, "crop", by_torch))


def test_predict_uses_an_exported_model(tmp_path: Path) -> None:
    """Its answers are those of the graph for the squares that prepare makes."""
    generator = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(50, 70), (8, 8), (3, 5), (90, 20)]):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"in/{number}.png")
    (tmp_path / "in/4.png").write_bytes(b"no picture")
    weights = (generator.normal(size=(8 * 8 * 3, 3)) / 1000).astype(np.float32)
    write_linear_model(tmp_path / "model.onnx", weights)
    code = without(packages_left_out()) + "from stages import predict; from stages.common.errors import run_main; "
    command: list[str | Path] = [sys.executable, "-c", code + "run_main(predict.main)", "--onnx"]
    done = run([*command, tmp_path / "model.onnx", "--csv", tmp_path / "in"], ROOT, expect=1)
    assert f"model: {tmp_path}/model.onnx, linear; cpu, " in done.stderr
    assert "1 of 5 could not be read" in refusal(done)
    rows = tables.parse(done.stdout.encode())
    assert [row["path"] for row in rows] == [f"{tmp_path}/in/{number}.png" for number in range(4)]
    for row in rows:
        square = to_square(decode(Path(row["path"]).read_bytes()).rgb, 8, "pad", by_torch)
        (expected,) = softmax(square.reshape(1, -1).astype(np.float64) @ weights)
        assert [float(row[f"p_{name}"]) for name in CLASSES] == pytest.approx(expected, abs=1e-5)
        assert row["class"] == CLASSES[expected.argmax()]
        assert float(row["confidence"]) == pytest.approx(expected.max(), abs=1e-5)


def test_predict_refuses_what_it_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("sys.argv", ["predict", "a.png"])
    with pytest.raises(UserError, match=r"has no PyTorch, .* --onnx models/model\.onnx"):
        predict.main()
    monkeypatch.setattr("sys.argv", ["predict", "--onnx", str(tmp_path / "model.onnx"), "a.png"])
    with pytest.raises(UserError, match=r"model\.onnx: no such file"):
        predict.main()
    for arguments, message in {
        ("--device", "cuda"): "--onnx: computed on the CPU; expected --device auto or cpu, got cuda",
        ("--model", "models"): "argument --model: not allowed with argument --onnx",
        ("--csv", "--json"): "argument --json: not allowed with argument --csv",
    }.items():
        monkeypatch.setattr("sys.argv", ["predict", "a.png", "--onnx", "model.onnx", *arguments])
        with pytest.raises(SystemExit):
            predict.main()
        assert message in capsys.readouterr().err
