"""Own models, augmentation, losses and metrics: what is wrong with one is said, by its name, before any work."""

import hashlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import stages.evaluate
import stages.model
import stages.train
from stages.common import extensions
from stages.common.errors import UserError
from stages.common.extensions import why_no_extension
from stages.common.files import write_json
from stages.common.params import load
from stages.evaluate.own_metric import load_metric
from stages.model.architectures import build_model
from stages.model.trained import _DIGEST, MODEL, WEIGHTS, load_trained
from stages.train.augment import Augment
from stages.train.extensions import load_extensions, try_augment, try_loss
from stages.train.params import TrainParams

Write = Callable[[str, str], None]
CPU = torch.device("cpu")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of the project: `room.module`, and its code."""
    monkeypatch.setattr(extensions, "ROOT", tmp_path)
    for package in (stages.model, stages.train, stages.evaluate):
        folder = tmp_path / package.__name__.replace(".", "/")
        folder.mkdir(parents=True)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    written = []

    def write(name: str, code: str) -> None:
        (tmp_path / f"stages/{name.replace('.', '/')}.py").write_text(textwrap.dedent(code))
        written.append(f"stages.{name}")

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os:system", "expected the name of a function, such as stages.model.mine:function"),
        ("stages.model:build_model", "expected the name"),
        ("stages.train.mine:f", "expected the name"),
        ("stages.model.mine.f", "expected the name"),
        ("stages.model.__main__:f", "expected the name"),
        ("stages.model.mine:f.g", "expected the name"),
        ("stages.model.absent:f", "there is no stages/model/absent.py"),
        ("stages.model.broken:f", "stages/model/broken.py: not Python: line 2: invalid syntax"),
        ("stages.model.mine:nn", "stages/model/mine.py defines no nn; it has f, g"),
        ("stages.model.mine:f", ""),
    ],
)
def test_names(write: Write, name: str, reason: str) -> None:
    """Only what a module of the room defines; told without importing it."""
    write("model.broken", "x = 1\nif if\n")
    write("model.mine", "from torch import nn\nraise SystemExit\ndef f(): ...\ndef g(): ...\n")
    assert reason in why_no_extension(name, "stages.model")
    assert bool(reason) == bool(why_no_extension(name, "stages.model"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def net(num_classes, channels): ...", "cannot be called as net(num_classes=…, channels=…, image_size=…)"),
        ("def net(**rest): return 3", "expected to return a torch.nn.Module, got int"),
        ("def net(num_classes, **rest): return nn.Flatten()", "expected to make float32 (2, 3) of float32 images"),
        ("def net(num_classes, **rest): return Sum()", "got float32 (2, 4)"),
        ("def net(num_classes, **rest): return Sum(3, torch.float64)", "got float64 (2, 3)"),
        ("def net(num_classes, **rest): return Sum(3, value=torch.nan)", "has numbers that are not finite"),
        ("def net(num_classes, **rest): return Sum(3)", "expected parameters that can be trained, got none"),
        ("def net(num_classes, **rest): return Tied()", "a.weight and b.weight in its state_dict share their memory"),
        ("import absent_package\ndef net(): ...", "does not import: No module named 'absent_package'"),
    ],
)
def test_models_that_are_none(write: Write, code: str, reason: str) -> None:
    write(
        "model.mine",
        """\
        import torch
        from torch import nn

        class Sum(nn.Module):
            def __init__(self, classes=4, dtype=torch.float32, value=1.0):
                super().__init__()
                self.classes, self.dtype, self.value = classes, dtype, value
            def forward(self, x):
                return torch.full((len(x), self.classes), self.value, dtype=self.dtype)

        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(16, 3), nn.Linear(16, 3)
                self.b.weight = self.a.weight
            def forward(self, x):
                return self.a(x.flatten(1))
        """,
    )
    with Path(sys.modules["stages.model"].__path__[-1], "mine.py").open("a") as stream:
        stream.write(code)
    with pytest.raises(UserError) as caught:
        build_model("stages.model.mine:net", num_classes=3, channels=1, image_size=4)
    assert str(caught.value).startswith("model: stages.model.mine:net")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["os:system", "stages.model.absent:net", "stages.train.loop:fit"])
def test_a_model_of_another_project(tmp_path: Path, name: str) -> None:
    """Nothing of what a stranger's model.json names is imported."""
    info = {
        "classes": ["a", "b"],
        "channels": 1,
        "image_size": 4,
        "resize": "crop",
        "mean": [0],
        "std": [1],
        "sha256": {},
    }
    write_json(tmp_path / MODEL.name, {"architecture": name, **info, "params": {}})
    digest = hashlib.sha256((tmp_path / MODEL.name).read_bytes()).hexdigest()
    (tmp_path / WEIGHTS.name).write_bytes(save({}, {_DIGEST: digest}))
    with pytest.raises(UserError, match=rf"model.json: architecture: '{name}': expected the name of a function"):
        load_trained(tmp_path, recorded=False)


def test_an_error_in_its_code_keeps_its_traceback(write: Write) -> None:
    write("model.mine", "def net(num_classes, channels, image_size):\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        build_model("stages.model.mine:net", num_classes=3, channels=1, image_size=4)
    assert caught.value.__notes__ == ["raised in the extension `model: stages.model.mine:net` of params.yaml"]


@pytest.fixture
def params(workspace: Path) -> TrainParams:
    return load(TrainParams).model_copy(update={"label_smoothing": 0.0})


def on(params: TrainParams, **changes: object) -> TrainParams:
    return params.model_copy(update=changes)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("return images[:1]", "expected to make float32 (6, 1, 4, 4) of float32 images (6, 1, 4, 4), got float32 (1,"),
        ("return images.double()", "got float64"),
        ("return images.numpy()", "expected to make a tensor of float32 images (6, 1, 4, 4), got ndarray"),
        ("return images / 0", "not finite"),
        ("import random; return images * random.random()", "makes other images with the same seed"),
    ],
)
def test_augmentation_that_is_none(write: Write, params: TrainParams, code: str, reason: str) -> None:
    write("train.mine", f"def change(images):\n    {code}\n")
    loaded = load_extensions(on(params, augment="stages.train.mine:change"))
    assert loaded.augment
    with pytest.raises(UserError, match=r"^augment: stages.train.mine:change: ") as caught:
        try_augment(loaded.augment, torch.ones(6, 1, 4, 4))
    assert reason in str(caught.value)


def test_augmentation_is_a_function_of_seed_epoch_and_step(write: Write, params: TrainParams) -> None:
    """Whatever was drawn before, as on another rank or after resuming."""
    write(
        "train.mine",
        "import torch\ndef noise(images, scale=1.0):\n    return images + scale * torch.rand(len(images), 1, 1, 1)",
    )
    params = on(params, augment="stages.train.mine:noise", options={"scale": 2})
    loaded = load_extensions(params)
    assert loaded.augment
    try_augment(loaded.augment, torch.ones(6, 1, 4, 4))

    def images(epoch: int, step: int, seed: int = 0) -> torch.Tensor:
        augment = Augment(on(params, seed=seed), 12, (4, 4), CPU, loaded.augment)
        augment.start_epoch(epoch, torch.arange(12).view(2, 6))
        torch.rand(epoch + step)
        return augment.images(torch.zeros(6, 1, 4, 4), step, slice(0, 6))

    assert torch.equal(images(1, 1), images(1, 1))
    assert images(1, 1).max() > 1
    assert not any(torch.equal(images(1, 1), other) for other in (images(1, 0), images(2, 1), images(1, 1, seed=1)))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "F.cross_entropy(logits, labels)",
            "expected to make float32 (6,) of logits (6, 3) and int64 labels (6,), got float32 ()",
        ),
        ("F.cross_entropy(logits.detach(), labels, reduction='none')", "no gradient leads"),
        ("F.cross_entropy(logits, labels, reduction='none') * torch.nan", "not finite"),
        (
            "F.cross_entropy(logits, labels, reduction='none') / len(labels)",
            "an image's loss depends on the other images",
        ),
    ],
)
def test_losses_that_are_none(write: Write, params: TrainParams, code: str, reason: str) -> None:
    write(
        "train.mine",
        f"import torch\nfrom torch.nn import functional as F\ndef mine(logits, labels):\n    return {code}\n",
    )
    loaded = load_extensions(on(params, loss="stages.train.mine:mine"))
    assert loaded.loss
    with pytest.raises(UserError, match=r"^loss: stages.train.mine:mine: ") as caught:
        try_loss(loaded.loss, 3, CPU)
    assert reason in str(caught.value)


def test_options_reach_who_names_them(write: Write, params: TrainParams) -> None:
    write(
        "train.mine",
        "def a(images, width=1): ...\ndef l(logits, labels, *, width=1, label_smoothing=0): ...\ndef m(x, y): ...",
    )
    both = on(params, augment="stages.train.mine:a", loss="stages.train.mine:l", label_smoothing=0.1)
    loaded = load_extensions(on(both, options={"width": 3}))
    assert loaded.augment and loaded.loss
    assert (loaded.augment.options, loaded.loss.options) == ({"width": 3}, {"width": 3, "label_smoothing": 0.1})
    with pytest.raises(UserError, match=r"options: images: no extension has a parameter of this name"):
        load_extensions(on(both, options={"images": 3}))
    with pytest.raises(UserError, match=r"has no parameter `label_smoothing`, which is 0.1"):
        load_extensions(on(both, loss="stages.train.mine:m"))


@pytest.mark.parametrize(
    ("value", "reason"), [("labels", "got array"), ("float('nan')", "got nan"), ("None", "got None")]
)
def test_metrics_that_are_none(write: Write, value: str, reason: str) -> None:
    write("evaluate.mine", f"def f2(probabilities, labels):\n    return {value}\n")
    with pytest.raises(UserError, match=r"^metric: stages.evaluate.mine:f2: expected to make a") as caught:
        load_metric("stages.evaluate.mine:f2", 3)
    assert reason in str(caught.value)
