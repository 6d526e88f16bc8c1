"""Training from pretrained weights: what is kept, new, and frozen; weights that do not fit are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.common.errors import UserError
from stages.common.params import load
from stages.model.architectures import build_model
from stages.model.dataset import DatasetInfo, Split, load_info
from stages.model.pretrained import FOLDER, Pretrained, read_pretrained, write_pretrained
from stages.model.runtime import setup
from stages.model.trained import MODEL, WEIGHTS, load_trained
from stages.prepare import __main__ as prepare
from stages.train import __main__ as train
from stages.train import loop
from stages.train.checkpoint import StopSignals, Store
from stages.train.distributed import World
from stages.train.loader import TrainingBatch
from stages.train.params import TrainParams
from tests.pretrained import ORIGIN
from tests.project import edit_params

HEAD = "10."


@pytest.fixture
def weights(image_workspace: Path) -> str:
    """The name of weights of resnet9 for five classes in colour; the project, with grey images, begins with them."""
    torch.manual_seed(7)
    model = build_model("resnet9", num_classes=5, channels=3, image_size=8)
    name = write_pretrained(model.state_dict(), ORIGIN, "resnet9")
    edit_params(image_workspace, model="resnet9", weights=name)
    prepare.main()
    return name


def backbone(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(HEAD)}


def changed(old: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> set[str]:
    """Names of tensors that differ."""
    return {key for key in old if not torch.equal(old[key], new[key])}


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights after each epoch, as they are validated."""
    seen: list[dict[str, torch.Tensor]] = []
    validate = loop.validate

    def recording(model: torch.nn.Module, *arguments: object) -> tuple[float, float]:
        seen.append({key: tensor.cpu().clone() for key, tensor in model.state_dict().items()})
        return validate(model, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "validate", recording)
    return seen


def test_frozen_epochs_leave_the_backbone_alone(
    weights: str, image_workspace: Path, epochs: list[dict[str, torch.Tensor]]
) -> None:
    """Running statistics of batch normalisation included; later epochs train all, at a lower rate than the head."""
    edit_params(image_workspace, epochs=3, freeze_epochs=2, backbone_lr=0.01)
    train.main()
    given = read_pretrained(weights).tensors
    begun = build_model("resnet9", num_classes=3, channels=1, image_size=8).state_dict()
    expected = backbone(given) | {"0.0.weight": given["0.0.weight"].sum(1, keepdim=True)}
    assert begun.keys() == epochs[0].keys()
    assert not changed(expected, epochs[0]) | changed(expected, epochs[1])
    assert changed(epochs[0], epochs[1]) == {"10.weight", "10.bias"}
    assert len(changed(epochs[1], epochs[2])) > len(expected) / 2


def test_the_head_alone_is_trained_on_features(
    weights: str, image_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice with the same bytes; what is saved is the whole network, as good as measured; mirror images count."""
    edit_params(image_workspace, fine_tune="head", flip="random", epochs=3, stored_size=10)
    prepare.main()
    train.main()
    assert "train images, as features, and" in capsys.readouterr().out
    saved = load_file(WEIGHTS)
    given = read_pretrained(weights).tensors
    assert changed(backbone(given), saved) == {"0.0.weight"}
    model = load_trained(recorded=False)
    figures = json.loads(train.METRICS.read_text())
    params = load(TrainParams)
    run = loop.Run(params, setup(params), World(), Store(""), StopSignals(), 1)
    measured = loop.validate(model.network, Split.load("val", model.info, torch.device("cpu")), run)
    assert measured == pytest.approx((figures["val_loss"], figures["val_accuracy"]), abs=1e-6)
    first = WEIGHTS.read_bytes()
    train.main()
    assert WEIGHTS.read_bytes() == first
    edit_params(image_workspace, flip="none")
    train.main()
    assert WEIGHTS.read_bytes() != first


def test_the_constants_and_the_origin_are_those_of_the_weights(
    weights: str, image_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For grey images, the means of three channels. A head that has learned nothing names one class, which is said."""
    edit_params(image_workspace, epochs=1, lr=1e-12)
    train.main()
    description = json.loads(MODEL.read_text())
    assert (description["mean"], description["std"]) == ([0.5], [0.2])
    assert description["pretrained"] == ORIGIN.model_dump()
    assert load_info().mean != [0.5]
    assert "warning: no better than naming " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda path: path.unlink(), "no such file. `make data` gets it"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not the weights of this name"),
        (lambda path: save_file(load_file(path), path), "not the weights of this name"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "architecture: Field required"),
        (
            lambda path: path.with_suffix(".json").write_text(
                path.with_suffix(".json").read_text().replace("MIT", "X")
            ),
            "says other than the weights themselves",
        ),
    ],
)
def test_files_that_are_not_the_weights(weights: str, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(FOLDER / f"{weights}.safetensors")
    with pytest.raises(UserError, match=expected):
        train.main()


def test_weights_that_do_not_fit(weights: str, image_workspace: Path) -> None:
    """Of another architecture, with a tensor too few, too many or of another shape, or with NaN."""
    edit_params(image_workspace, model="resnet18")
    with pytest.raises(UserError, match=r"weights of resnet9; expected those of the model, resnet18"):
        train.main()
    tensors = read_pretrained(weights).tensors
    for name, tensor, expected in (
        ("0.0.weight", None, r"0\.0\.weight: missing"),
        ("more", torch.ones(1), r"more: not in the model"),
        ("1.0.weight", torch.ones(2, 2), r"1\.0\.weight: \(2, 2\); expected \(32, 16, 3, 3\)"),
        ("1.0.weight", tensors["1.0.weight"] * torch.nan, r"not finite in:\n  1\.0\.weight"),
    ):
        spoiled = {key: one for key, one in (tensors | {name: tensor}).items() if one is not None}
        edit_params(image_workspace, model="resnet9", weights=write_pretrained(spoiled, ORIGIN, "resnet9"))
        with pytest.raises(UserError, match=expected):
            train.main()


def test_params_that_contradict_each_other(image_workspace: Path) -> None:
    name = f"some-{'0' * 16}"
    for values, expected in (
        ({"weights": "resnet18.pth"}, "weights: expected '' or a name that ends in 16 hexadecimal digits"),
        ({"freeze_epochs": 1}, "weights: expected a name, because freeze_epochs is for pretrained weights"),
        ({"weights": name, "freeze_epochs": 2, "epochs": 2}, "freeze_epochs: expected fewer than epochs, 2; got 2"),
        ({"weights": name, "fine_tune": "head", "mixup": 1}, "so mixup would do nothing"),
        ({"accumulate": 5, "batch_size": 4}, "accumulate: expected at most batch_size, 4; got 5"),
        ({"stored_size": 7, "image_size": 8}, "stored_size: expected 0, or image_size, 8, or more; got 7"),
    ):
        before = Path("params.yaml").read_text()
        edit_params(image_workspace, **values)
        with pytest.raises(UserError) as caught:
            load(TrainParams)
        assert expected in str(caught.value)
        Path("params.yaml").write_text(before)


def test_one_channel_becomes_three() -> None:
    constants = Pretrained("", ORIGIN.model_copy(update={"mean": [0.1], "std": [0.2]}), {}).constants
    assert constants(1) == ([0.1], [0.2])
    assert constants(3) == ([0.1] * 3, [0.2] * 3)


def test_more_epochs_than_steps(weights: str, image_workspace: Path) -> None:
    edit_params(image_workspace, steps=1, freeze_epochs=1, epochs=9)
    with pytest.raises(UserError, match=r"freeze_epochs: expected fewer than the 1 epochs of 1 steps; got 1"):
        train.main()


def test_patience(image_workspace: Path) -> None:
    """What does not get better ends."""
    prepare.main()
    edit_params(image_workspace, epochs=50, lr=1e-12, patience=2)
    train.main()
    assert len(loop.CURVES.read_text().splitlines()) == 1 + 3


def test_parts_of_a_batch_have_its_gradient(image_workspace: Path) -> None:
    """Without batch normalisation, accumulated gradients are those of the whole batch, of uneven parts, too."""
    prepare.main()
    edit_params(image_workspace, model="simplenet", batch_size=50, mixup=0.2)
    train.main()
    whole = load_file(WEIGHTS)
    edit_params(image_workspace, accumulate=3)
    train.main()
    for name, tensor in load_file(WEIGHTS).items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=1e-5)


def test_class_weights() -> None:
    """Each class has the same say, and all together that of the images."""
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = train.balanced_weights(labels, ["a", "b", "c"])
    with pytest.raises(UserError, match="balance: loss: no train image of d"):
        train.balanced_weights(labels, ["a", "b", "c", "d"])
    torch.testing.assert_close(weights * labels.bincount(), torch.full((3,), 10 / 3))
    batch = TrainingBatch(torch.zeros(10, 1), labels, None, 10)
    logits = torch.randn(10, 3, generator=torch.manual_seed(0))
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    expected = (losses * weights[labels]).sum()
    torch.testing.assert_close(loop.training_loss(logits, batch, 0.1, None, weights), expected)


def test_stored_images_are_larger_than_seen(image_workspace: Path) -> None:
    """Training cuts a random window or a resized part, evaluation the centre."""
    edit_params(image_workspace, stored_size=12)
    prepare.main()
    info: DatasetInfo = load_info()
    assert (info.stored_size, info.image_size) == (12, 8)
    val = Split.load("val", info, torch.device("cpu"))
    assert val.images.shape[1:3] == (12, 12)
    (batch, *_) = val.batches(4)
    torch.testing.assert_close(batch.images, val.normalise(val.images[:4, 2:10, 2:10]))
    for values in ({"crop_padding": 1}, {"crop_padding": 0, "resized_crop": 0.5}):
        edit_params(image_workspace, epochs=1, **values)
        train.main()
    description = json.loads(MODEL.read_text())
    assert (description["image_size"], description["stored_size"]) == (8, 12)
