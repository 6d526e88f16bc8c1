"""train learns, chooses on val, and gives the same bytes again."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages import prepare, train
from stages.dataset import Split, load_info
from stages.errors import UserError
from stages.model import build_model
from tests.project import edit_params, write_images

RESULTS = (train.WEIGHTS, train.MODEL, train.CURVES, train.METRICS)


@pytest.fixture
def prepared(image_workspace: Path) -> Path:
    prepare.main()
    return image_workspace


def test_twice_the_same_bytes_and_another_seed_others(prepared: Path) -> None:
    """Also with seed 0, which a careless `if seed:` would ignore."""
    edit_params(prepared, model="resnet9", seed=0)
    train.main()
    first = [path.read_bytes() for path in RESULTS]
    torch.rand(3)  # the global generator's state has no say
    train.main()
    assert first == [path.read_bytes() for path in RESULTS]
    edit_params(prepared, seed=1)
    train.main()
    assert first != [path.read_bytes() for path in RESULTS]


def test_seed_zero_seeds_the_initial_weights_too(prepared: Path) -> None:
    """At a learning rate next to nothing, the weights are the initial ones."""
    edit_params(prepared, epochs=1, lr=1e-12, seed=0)
    train.main()
    zero = load_file(train.WEIGHTS)
    edit_params(prepared, seed=1)
    train.main()
    one = load_file(train.WEIGHTS)
    assert all((zero[name] - one[name]).abs().max() > 1e-3 for name in zero)


def test_validation_does_not_depend_on_its_batches(prepared: Path) -> None:
    """Batch normalisation uses, and keeps, the statistics of training."""
    info = load_info()
    model = build_model("resnet9", num_classes=3, channels=1, image_size=8)
    model.train()
    val = Split.load("val", info, torch.device("cpu"))
    by_three, by_all = (train.validate(model, val, size) for size in (3, len(val)))
    assert by_three == pytest.approx(by_all, abs=1e-5)


def test_weights_are_those_of_the_best_val_epoch(prepared: Path) -> None:
    """The saved weights give, on val, the very figures of the best row of the curve."""
    edit_params(prepared, epochs=6, lr=0.5)
    train.main()
    with train.CURVES.open(newline="") as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    metrics = json.loads(train.METRICS.read_text())
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["val_accuracy"] == best["val_accuracy"]
    info = load_info()
    model = build_model("simplenet", num_classes=3, channels=1, image_size=8)
    model.load_state_dict(load_file(train.WEIGHTS))
    loss, accuracy = train.validate(model, Split.load("val", info, torch.device("cpu")), 7)
    assert loss == pytest.approx(best["val_loss"], abs=1e-5)
    assert accuracy == pytest.approx(best["val_accuracy"], abs=1e-6)


def test_an_output_that_cannot_be_written_stops_before_training(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file stands where the folder of the weights should be."""
    (prepared / "models").touch()
    with pytest.raises(FileExistsError):
        train.main()
    assert "epoch   1" not in capsys.readouterr().out


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns(workspace: Path, optimizer: str) -> None:
    """Bright and dark images are told apart after a few steps, with either optimizer."""
    write_images(workspace / "data", {"bright": 60, "dark": 60})
    from PIL import Image

    for path in (workspace / "data").rglob("*.png"):
        with Image.open(path) as picture:
            changed = picture.point(lambda value, bright=path.parent.name == "bright": value // 4 + 128 * bright)
        changed.save(path)
    edit_params(workspace, optimizer=optimizer, lr=0.01, epochs=5)
    prepare.main()
    train.main()
    assert json.loads(train.METRICS.read_text())["val_accuracy"] == 1.0


def test_model_json_holds_what_is_needed_to_use_the_weights(prepared: Path) -> None:
    train.main()
    content = json.loads(train.MODEL.read_text())
    info = json.loads(Path("prepared/dataset.json").read_text())
    assert content["architecture"] == "simplenet"
    assert all(content[key] == info[key] for key in ("classes", "channels", "image_size", "mean", "std"))
    assert content["params"]["lr"] == 0.1


def test_learning_rate_rises_to_its_peak_and_falls(prepared: Path) -> None:
    edit_params(prepared, lr=0.08, warmup=0.25)
    from stages.params import TrainParams, load

    params = load(TrainParams)
    model = torch.nn.Linear(1, 1)
    optimizer = train.build_optimizer(model, params)
    schedule = train.one_cycle(optimizer, params, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.08, rel=1e-3)
    assert 23 <= rates.index(max(rates)) <= 26
    assert rates[0] == pytest.approx(0.08 / 25)
    assert rates[-1] < 0.08 / 1000


def test_one_step_in_all(prepared: Path) -> None:
    """A train split smaller than a batch, and one epoch: the shortest schedule there is."""
    edit_params(prepared, batch_size=4096, epochs=1, warmup=0.05)
    train.main()
    assert len(train.CURVES.read_text().splitlines()) == 2


def test_a_loss_that_explodes_stops_the_run(prepared: Path) -> None:
    """It stops with epoch and lr, and writes no model."""
    edit_params(prepared, model="simplenet", lr=100, weight_decay=1, epochs=50)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in epoch \d+ \(lr .*Lower lr"):
        train.main()
    assert not train.WEIGHTS.exists()
