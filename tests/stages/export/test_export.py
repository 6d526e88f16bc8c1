"""export writes the network of evaluate as ONNX, the same bytes again, or nothing where an answer would change."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from stages.common.errors import UserError
from stages.common.params import load
from stages.common.softmax import softmax
from stages.export import __main__ as export
from stages.export.onnx_model import describe, onnx_model
from stages.export.params import ExportParams
from stages.export.parity import power_of_ten
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import MODELS, TrainedModel, load_trained
from stages.onnx.classifier import load as load_onnx
from stages.onnx.sealed import MODEL
from stages.prepare import __main__ as prepare
from stages.train import __main__ as train
from tests.project import edit_params, sample_params, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a model of colour images was trained and exported, whose margin is cut off, and whose answers
    are those for the image and its mirror image. Not to be changed."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "params.yaml").write_text(sample_params())
    edit_params(folder, model="simplenet", epochs=1, image_size=6, stored_size=8, tta_flip="true", flip="random")
    write_images(folder / "data", {"cat": 40, "dog": 40}, colour=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["stage"])
        for stage in (prepare, train, export):
            stage.main()
        yield folder


@pytest.fixture
def exported(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own; the current folder."""
    folder = shutil.copytree(template, tmp_path / "copy")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["stage"])
    return folder


def test_the_exported_model_gives_the_answers_of_the_network(exported: Path) -> None:
    params = load(ExportParams)
    runtime = setup(params)
    model = load_trained()
    test = Split.load("test", load_info(), runtime.device)
    classifier = load_onnx(MODEL, 1)
    expected = softmax(export.answers(model, test, params, runtime))
    found = softmax(classifier.logits(test.images.numpy()))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The mirrored images have a say.
    plain = softmax(model.logits(test.batches(64), runtime))
    assert np.abs(found - plain).max() > 1e-4

    info = classifier.info
    assert (info.classes, info.architecture, info.channels) == (["cat", "dog"], "simplenet", 3)
    assert (info.image_size, info.stored_size, info.resize, info.tta_flip) == (6, 8, "crop", True)
    assert info.versions == {name: version(name) for name in ("torch", "onnx", "onnxscript")}
    figures = json.loads(export.METRICS.read_text())
    assert (figures["images"], figures["changed"], figures["largest_difference_at_most"]) == (len(test), 0, 1e-4)
    assert figures["batches"].keys() == {"1", "7", "64"}
    assert [entry["path"] for entry in figures["measured"]][::3] == ["models/model.safetensors", "models/model.onnx"]


def test_the_same_again_gives_the_same_bytes_without_a_path_of_this_machine(exported: Path) -> None:
    model = load_trained()
    content = MODEL.read_bytes()
    assert onnx_model(model, describe(model, MODELS, tta_flip=True)) == content
    assert not re.search(rb"[\w-]\.py\b|/home|/root|" + str(Path.cwd()).encode(), content)
    # A graph that other programs take, in which nothing but the network's numbers is large.
    onnx.checker.check_model(onnx.load(MODEL), full_check=True)
    assert len(content) < 4 * sum(p.numel() for p in model.network.parameters()) + 20_000


class OtherWhereTraced(nn.Module):
    """What PyTorch's exporter sees is not what is computed, as where it traces a network wrongly."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return -logits if torch.compiler.is_exporting() else logits


class DependsOnNumbers(OtherWhereTraced):
    """Which operations there are depends on an image's numbers."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits if images.sum() > 0 else -logits


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        (
            OtherWhereTraced,
            r"export: 15 of 15 test images are answered otherwise .*\n  (cat|dog)/\w+\.png: (cat|dog) 0\.",
        ),
        (DependsOnNumbers, r"export: simplenet: PyTorch cannot export it as ONNX \(Could not guard on data-dependent"),
    ],
)
def test_nothing_is_written_where_it_is_another_network(
    exported: Path, monkeypatch: pytest.MonkeyPatch, wrapper: type[OtherWhereTraced], expected: str
) -> None:
    MODEL.unlink()
    export.METRICS.unlink()
    edit_params(exported, tta_flip="false")

    def load_wrapped(*, recorded: bool) -> TrainedModel:
        model = load_trained(recorded=recorded)
        return model._replace(network=wrapper(model.network))

    monkeypatch.setattr(export, "load_trained", load_wrapped)
    with pytest.raises(UserError, match=expected) as caught:
        export.main()
    assert not MODEL.exists() and not export.METRICS.exists()
    if wrapper is OtherWhereTraced:
        with (exported / "prepared/manifest.csv").open(newline="") as stream:
            paths = [row["path"] for row in csv.DictReader(stream) if row["split"] == "test"]
        lines = str(caught.value).splitlines()[1:-1]
        assert [line.split(":")[0].strip() for line in lines[:-1]] == paths[:8]
        assert lines[-1] == "  and 7 more"
        assert re.fullmatch(
            r"  \S+: (\w+) 0\.\d{6} by PyTorch, (?!\1)\w+ 0\.\d{6} by onnxruntime, in batches of 1", lines[0]
        )


@pytest.mark.parametrize(
    ("difference", "expected"), [(0, 1e-4), (3e-7, 1e-4), (1e-4, 1e-4), (1.1e-4, 1e-3), (0.02, 0.1), (1, 1)]
)
def test_differences_are_rounded_up(difference: float, expected: float) -> None:
    assert power_of_ten(difference) == expected
