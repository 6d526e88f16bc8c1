"""train learns, chooses on val, and gives the same bytes again."""

import csv
import errno
import itertools
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.common.errors import UserError
from stages.common.params import load
from stages.model.architectures import build_model
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import MODEL, WEIGHTS
from stages.prepare import __main__ as prepare
from stages.train import __main__ as train
from stages.train import loop, tensor_files
from stages.train.checkpoint import Checkpoint, StopSignals, Store
from stages.train.distributed import World
from stages.train.params import TrainParams
from stages.train.state import TrainingState
from tests.interruption import stores
from tests.project import ROOT, edit_params, refusal, run, write_images

RESULTS = (WEIGHTS, MODEL, loop.CURVES, train.METRICS)


@pytest.fixture
def prepared(image_workspace: Path) -> Path:
    prepare.main()
    return image_workspace


def validate(model: torch.nn.Module, batch_size: int) -> tuple[float, float]:
    """train's own validation of a model on the val split."""
    params = load(TrainParams).model_copy(update={"eval_batch_size": batch_size})
    runtime = setup(params)
    alone = World()
    run = loop.Run(params, runtime, alone, Store(""), StopSignals(), 1)
    return loop.validate(model.to(runtime.device), Split.load("val", load_info(), runtime.device), run)


def curves() -> list[dict[str, float]]:
    with loop.CURVES.open(newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


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
    zero = load_file(WEIGHTS)
    edit_params(prepared, seed=1)
    train.main()
    one = load_file(WEIGHTS)
    assert all((zero[name] - one[name]).abs().max() > 1e-3 for name in zero)


def test_validation_does_not_depend_on_its_batches(prepared: Path) -> None:
    """Batch normalisation uses, and keeps, the statistics of training."""
    model = build_model("resnet9", num_classes=3, channels=1, image_size=8)
    model.train()
    by_three, by_all = (validate(model, size) for size in (3, 4096))
    assert by_three == pytest.approx(by_all, abs=1e-5)


def test_weights_are_those_of_the_best_val_epoch(prepared: Path) -> None:
    """The saved weights give, on val, the very figures of the best row of the curve."""
    edit_params(prepared, epochs=6, lr=0.5)
    train.main()
    rows = curves()
    metrics = json.loads(train.METRICS.read_text())
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["val_accuracy"] == best["val_accuracy"]
    model = build_model("simplenet", num_classes=3, channels=1, image_size=8)
    model.load_state_dict(load_file(WEIGHTS))
    loss, accuracy = validate(model, 7)
    assert loss == pytest.approx(best["val_loss"], abs=1e-5)
    assert accuracy == pytest.approx(best["val_accuracy"], abs=1e-6)


def test_an_output_that_cannot_be_written_stops_before_training(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file stands where the folder of the weights should be."""
    (prepared / "models").touch()
    with pytest.raises(UserError, match="models: expected a folder, got a file"):
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
    content = json.loads(MODEL.read_text())
    info = json.loads(Path("prepared/dataset.json").read_text())
    assert content["architecture"] == "simplenet"
    assert all(content[key] == info[key] for key in ("classes", "channels", "image_size", "mean", "std"))
    assert content["params"]["lr"] == 0.1


def test_one_step_in_all(prepared: Path) -> None:
    """A train split smaller than a batch, and one epoch: the shortest schedule there is."""
    edit_params(prepared, batch_size=4096, epochs=1, warmup=0.05)
    train.main()
    assert len(loop.CURVES.read_text().splitlines()) == 2


def test_checkpoints_go_last(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails after training, were it the last line that is printed, loses none of it."""
    edit_params(prepared, steps=1)
    monkeypatch.setattr(Store, "due", True)

    def fail(*_: object) -> None:
        assert train.RUN.exists()
        raise OSError(errno.EIO, "no terminal")

    with monkeypatch.context() as last:
        last.setattr(train, "warn_of_majority", fail)
        with pytest.raises(OSError, match="no terminal"):
            train.main()
    assert len(stores(prepared)) == 1
    train.main()
    assert json.loads(train.RUN.read_text())["resumed"]
    assert stores(prepared) == []


def test_a_loss_that_explodes_stops_the_run(prepared: Path) -> None:
    """With epoch and lr, whether it is training's or validation's, and no model is written."""
    edit_params(prepared, model="simplenet", lr=100, weight_decay=1, epochs=50)
    with pytest.raises(
        UserError, match=r"the (loss is not finite in|validation loss is (nan|inf) after) epoch \d+.*Lower lr"
    ):
        train.main()
    assert not WEIGHTS.exists()


def test_nothing_is_kept_after_a_loss_that_is_not_finite(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second step of the second epoch, with a checkpoint after each step: the last one is of the step before."""
    edit_params(prepared, batch_size=16, epochs=3)
    steps = itertools.count()
    per_epoch = json.loads(Path("prepared/dataset.json").read_text())["counts"]["train"]
    bad = sum(per_epoch.values()) // 16 + 1

    def poisoned(logits: torch.Tensor, *_: Any) -> torch.Tensor:
        return logits.sum() * (torch.nan if next(steps) == bad else 1e-3)

    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    monkeypatch.setattr(Store, "due", True)
    monkeypatch.setattr(loop, "training_loss", poisoned)
    with pytest.raises(UserError, match="not finite in epoch 2, step 2 "):
        train.main()
    assert not any(path.exists() for path in (WEIGHTS, MODEL, train.METRICS))
    (folder,) = Path(".dvc/tmp/checkpoints").iterdir()
    saved = Store(folder.name).load()
    assert saved is not None
    assert (saved.state["epoch"], saved.state["step"]) == (2, 1)
    assert all(tensor.isfinite().all() for tensor in saved.tensors.values())


def test_no_checkpoint_of_a_loss_that_is_not_finite(prepared: Path) -> None:
    """On a GPU it is looked at only when a checkpoint is due."""
    params = load(TrainParams)
    runtime = setup(params)
    info = load_info()
    model = build_model(params.model, num_classes=3, channels=info.channels, image_size=info.image_size)
    state = TrainingState(model, params, runtime, World())
    run = loop.Run(params, runtime, World(), Store("bad"), StopSignals(), 9)
    for loss in (torch.inf, 1.0):
        state.add(torch.tensor(loss), torch.zeros(1, 3), torch.zeros(1))
        state.end_step()
    with pytest.raises(UserError, match="not finite in epoch 1, step 2"):
        loop.save_checkpoint(state, run, stop=True)
    assert run.store.load() is None


def test_a_checkpoint_that_cannot_be_written(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While training goes on: it stops at its next step with the error, which names the file; what was saved before is
    whole, and the same command goes on from there."""
    edit_params(prepared, batch_size=16, epochs=2)
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    monkeypatch.setattr(Store, "due", True)
    steps, write = itertools.count(), tensor_files.write_piece

    def full(stream: Any, content: bytes) -> None:
        if started[-1] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(stream, content)

    started: list[int] = []
    save = Store.save_beside

    def counted(store: Store, saved: Checkpoint) -> None:
        started.append(next(steps))
        save(store, saved)
        store._join()

    with monkeypatch.context() as changed:
        changed.setattr(tensor_files, "write_piece", full)
        changed.setattr(Store, "save_beside", counted)
        with pytest.raises(OSError, match=r"No space left on device: '.*/\.00000004\.safetensors\.\w+\.tmp'"):
            train.main()
    assert started == [0, 1, 2, 3]
    (folder,) = Path(".dvc/tmp/checkpoints").iterdir()
    saved = Store(folder.name).load()
    assert saved is not None
    assert saved.state["step"] == 3
    assert {path.name for path in folder.iterdir()} == {"00000002.safetensors", "00000003.safetensors", "lock"}


def test_a_validation_loss_that_is_not_finite(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be chosen by it, and JSON could not hold it."""
    monkeypatch.setattr(loop, "validate", lambda *_: (torch.inf, 0.5))
    with pytest.raises(UserError, match="validation loss is inf after epoch 1"):
        train.main()
    assert not WEIGHTS.exists()


def test_steps_in_place_of_epochs(prepared: Path) -> None:
    """Two whole epochs and two steps of a third, each validated."""
    edit_params(prepared, batch_size=16, epochs=1)
    steps_per_epoch = len(Split.load("train", load_info(), torch.device("cpu"))) // 16
    assert steps_per_epoch > 2
    edit_params(prepared, steps=2 * steps_per_epoch + 2)
    train.main()
    assert [row["epoch"] for row in curves()] == [1, 2, 3]
    edit_params(prepared, steps=0, epochs=2)
    first_two = curves()[:2]
    train.main()
    # The same images in the same order, at another learning rate.
    assert curves()[0]["train_loss"] == pytest.approx(first_two[0]["train_loss"], rel=0.2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions(prepared: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Near the result of fp32, not it, and the same bytes again; said and recorded."""
    edit_params(prepared, model="resnet9", epochs=1)
    train.main()
    exact = load_file(WEIGHTS)
    edit_params(prepared, precision=precision)
    train.main()
    rounded = load_file(WEIGHTS)
    assert f"; {precision}, native arithmetic (" in capsys.readouterr().out
    assert json.loads(train.ENVIRONMENT.read_text())["precision"] == precision
    differences = [(exact[name].float() - rounded[name].float()).abs().max() for name in exact]
    assert 0 < max(differences) < 0.5
    assert all(tensor.dtype == exact[name].dtype for name, tensor in rounded.items())
    before = WEIGHTS.read_bytes()
    train.main()
    assert WEIGHTS.read_bytes() == before


def test_everything_at_once(prepared: Path) -> None:
    """All augmentation, average, clipping: it runs, learns from one image to the next, and repeats to the byte."""
    edit_params(
        prepared,
        model="resnet9",
        optimizer="adamw",
        schedule="cosine",
        lr=0.003,
        clip_norm=1,
        ema_decay=0.9,
        crop_padding=1,
        flip="alternating",
        erasing=0.3,
        mixup=0.2,
        cutmix=0.5,
    )
    train.main()
    before = [path.read_bytes() for path in RESULTS]
    train.main()
    assert before == [path.read_bytes() for path in RESULTS]


def test_the_average_is_what_is_kept(prepared: Path) -> None:
    """The weights on disk are those that were validated, and not those of a run without the average."""
    edit_params(prepared, model="resnet9", ema_decay=0.99)
    train.main()
    model = build_model("resnet9", num_classes=3, channels=1, image_size=8)
    model.load_state_dict(load_file(WEIGHTS))
    assert validate(model, 64)[0] == pytest.approx(json.loads(train.METRICS.read_text())["val_loss"], abs=1e-5)
    averaged = WEIGHTS.read_bytes()
    row = curves()[-1]
    edit_params(prepared, ema_decay=0)
    train.main()
    assert WEIGHTS.read_bytes() != averaged
    assert curves()[-1]["train_loss"] == row["train_loss"]  # training itself is the same


def test_batch_normalisation_needs_two_images(prepared: Path) -> None:
    edit_params(prepared, model="resnet9", batch_size=1)
    with pytest.raises(UserError, match=r"batch_size: expected 2 or more images for each of 1 processes.*got 1 in all"):
        train.main()
    edit_params(prepared, model="simplenet", epochs=1)
    train.main()


def test_compiling_without_a_compiler(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a PATH on which there is none."""
    edit_params(prepared, model="resnet9", compile="true")
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no C and C\+\+ compiler works here \(neither .*set `compile: false`"):
        train.main()


def refused_under(limit: str, prepared: Path) -> str:
    """The message of training that begins with as little memory as the statements of `limit` leave."""
    program = (
        "import sys, resource; from stages.common import errors; from stages.train import __main__ as train\n"
        "import torch  # after the stages, which choose its kernels\n"
        "fit = train.fit\n"
        f"def fit_in_less(*args):\n{textwrap.indent(limit, '    ')}\n    fit(*args)\n"
        "train.fit = fit_in_less; errors.run_main(train.main)"
    )
    return refusal(run([sys.executable, "-c", program], prepared, expect=1, PYTHONPATH=str(ROOT)))


@pytest.mark.slow
def test_out_of_memory(prepared: Path) -> None:
    """A process that gets no more memory says which batch size and precision to try."""
    edit_params(prepared, model="resnet9", batch_size=128, device="cpu")
    # Enough for what oneDNN sets up, whose errors do not say why, and too little for the batch.
    limit = (
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 12_000_000,) * 2)"
    )
    text = refused_under(limit, prepared)
    assert "out of memory with resnet9, batch_size 128" in text
    assert "Try batch_size 64 or precision bf16" in text


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_out_of_gpu_memory(prepared: Path) -> None:
    edit_params(prepared, model="resnet9", batch_size=64)
    text = refused_under("torch.cuda.set_per_process_memory_fraction(1e-5)", prepared)
    assert "out of memory with resnet9, batch_size 64" in text
    assert "CUDA out of memory" in text
