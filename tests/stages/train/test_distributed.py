"""Two real processes, started by torchrun, train one model: the same batches, one result, no hang."""

import json
import signal
from pathlib import Path

import pytest

from stages.model.architectures import build_model
from stages.model.pretrained import FOLDER, write_pretrained
from stages.train.distributed import World
from tests.interruption import RESULTS, TWO_PROCESSES, results, stores, train, without_results
from tests.pretrained import ORIGIN
from tests.project import BIN, ROOT, edit_params, run, sample_params, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set and what an uninterrupted run of two processes makes of it; not to be changed.

    Batches of 9 are uneven for two.
    """
    folder = tmp_path_factory.mktemp("processes")
    (folder / "params.yaml").write_text(sample_params())
    write_images(folder / "data", {"cat": 100, "dog": 100}, side=8)
    edit_params(folder, model="resnet9", epochs=3, batch_size=9, threads=1, ema_decay=0.9, mixup=0.2)
    edit_params(folder, weights=write_weights(folder), freeze_epochs=1, backbone_lr=0.5, accumulate=2)
    edit_params(folder, balance="sampling", stored_size=10, device="cpu")
    run([BIN / "python", "-m", "stages.prepare"], folder, PYTHONPATH=str(ROOT))
    done = train(folder, launcher=TWO_PROCESSES)
    assert done.returncode == 0, done.stderr
    assert ", 2 processes; " in done.stdout
    assert done.stdout.count("epoch   3/3") == 1
    return folder


def write_weights(folder: Path) -> str:
    """Weights of resnet9 that nothing was learned by; their name."""
    model = build_model("resnet9", num_classes=4, channels=1, image_size=8)
    origin = ORIGIN.model_copy(update={"classes": 4, "mean": [0.5], "std": [0.25]})
    return write_pretrained(model.state_dict(), origin, "resnet9", folder / FOLDER)


@pytest.fixture
def prepared(template: Path, tmp_path: Path) -> Path:
    """A copy of `template` without the results of training."""
    return without_results(template, tmp_path / "project")


@pytest.mark.parametrize(("total", "count"), [(9, 2), (64, 3), (2, 4), (0, 2)])
def test_shares_are_all_and_even(total: int, count: int) -> None:
    shares = [list(range(total))[World(rank, count).shard(total)] for rank in range(count)]
    assert [thing for share in shares for thing in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_killed_rank_ends_the_run_and_is_made_good(prepared: Path, template: Path) -> None:
    """The other process does not hang; the next run goes on to the same bytes."""
    done = train(prepared, 50, rank=1, launcher=TWO_PROCESSES)
    assert done.returncode not in (0, 75)
    assert "exitcode  : -9" in done.stderr
    assert not (prepared / RESULTS[0]).exists()
    assert len(stores(prepared)) == 1
    done = train(prepared, launcher=TWO_PROCESSES)
    assert "resumed from epoch 2, step 0" in done.stdout
    assert results(prepared) == results(template)
    assert json.loads((prepared / "metrics/environment.json").read_text())["processes"] == 2
    assert stores(prepared) == []


def test_a_signal_to_one_stops_both_at_the_same_step(prepared: Path, template: Path) -> None:
    """Whichever was told; in the middle of an epoch, from which the next run goes on to the same bytes."""
    done = train(prepared, 36, signal.SIGTERM, rank=1, launcher=TWO_PROCESSES)
    assert "stopped by a signal to another process after epoch" in done.stderr
    # torchrun tells the other process to stop as soon as one has ended, which may be before that has ended by itself.
    assert "exitcode  : 75" in done.stderr
    done = train(prepared, launcher=TWO_PROCESSES)
    assert "resumed from epoch 2, step " in done.stdout
    assert "resumed from epoch 2, step 0" not in done.stdout
    assert results(prepared) == results(template)


def test_near_what_one_process_learns(prepared: Path, template: Path) -> None:
    """The same batches, in the same order, with the same mean of gradients: of a model without batch normalisation,
    whose statistics are each process's own, the losses agree but for rounding."""
    edit_params(prepared, model="simplenet", weights="''", freeze_epochs=0, backbone_lr=1)
    losses = []
    for launcher in ((str(BIN / "python"),), TWO_PROCESSES):
        done = train(prepared, launcher=launcher)
        assert done.returncode == 0, done.stderr
        rows = (prepared / "plots/curves.csv").read_text().splitlines()[1:]
        losses.append([float(value) for row in rows for value in row.split(",")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_a_user_does_wrong_is_said_by_all(prepared: Path) -> None:
    """More processes than images in a batch: the message, no hang, and no traceback but torchrun's own."""
    edit_params(prepared, batch_size=2)
    done = train(prepared, launcher=TWO_PROCESSES)
    assert done.returncode == 1
    assert "\nerror: batch_size: expected 2 or more images for each of 2 processes" in "\n" + done.stderr
    assert "stages/train" not in done.stderr
