"""A killed run goes on to the very bytes of one that was not; another experiment never does."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from stages.common.errors import UserError
from stages.train import checkpoint
from stages.train.checkpoint import Checkpoint, Store
from tests.interruption import results, stores, train, without_results
from tests.project import BIN, ROOT, edit_params, run, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set and what an uninterrupted run makes of it. Not to be changed: `prepared` gives copies."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copy(ROOT / "params.yaml", folder)
    write_images(folder / "data", {"cat": 100, "dog": 100}, side=8)
    edit_params(folder, model="resnet9", epochs=3, batch_size=8)
    run([BIN / "python", "-m", "stages.prepare"], folder, PYTHONPATH=str(ROOT))
    assert train(folder).returncode == 0
    return folder


@pytest.fixture
def prepared(template: Path, tmp_path: Path) -> Path:
    """A copy of `template` without the results of training."""
    return without_results(template, tmp_path / "project")


@pytest.fixture
def uninterrupted(template: Path) -> list[bytes]:
    return results(template)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_killed_and_resumed(prepared: Path, optimizer: str) -> None:
    """Killed in the first, second and third epoch: the bytes of an uninterrupted run, and nothing left behind."""
    edit_params(prepared, optimizer=optimizer, lr=0.01)
    assert train(prepared).returncode == 0
    expected = results(prepared)
    for at in (5, 20, 20):  # counted anew in each process, which goes on from the last epoch that was finished
        assert train(prepared, at).returncode == -signal.SIGKILL
    done = train(prepared)
    assert done.returncode == 0
    assert "resumed from epoch 3, step 0" in done.stdout
    assert results(prepared) == expected
    assert json.loads((prepared / "metrics/run.json").read_text())["resumed"] >= 1
    assert stores(prepared) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_told_to_stop(prepared: Path, uninterrupted: list[bytes], number: int) -> None:
    """Saves in the middle of an epoch, says so, and exits with a code of its own; then goes on from that very step."""
    done = train(prepared, 18, number)
    assert done.returncode == checkpoint.STOPPED
    assert f"stopped by {signal.Signals(number).name} after epoch 2, step 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert "resumed from epoch 2, step 3" in train(prepared).stdout
    assert results(prepared) == uninterrupted


def test_another_experiment_is_never_resumed(prepared: Path) -> None:
    train(prepared, 20)
    edit_params(prepared, lr=0.05)
    done = train(prepared)
    assert done.returncode == 0
    assert "resumed" not in done.stdout
    assert len(stores(prepared)) == 1  # the first one's, still there to be resumed


def test_other_data_is_another_experiment(prepared: Path) -> None:
    train(prepared, 20)
    write_images(prepared / "data", {"cat": 101}, seed=5)
    run([BIN / "python", "-m", "stages.prepare"], prepared, PYTHONPATH=str(ROOT))
    assert "resumed" not in train(prepared).stdout


def test_a_damaged_checkpoint(prepared: Path, uninterrupted: list[bytes]) -> None:
    """One changed byte, or a file cut short, is refused and the checkpoint before it used."""
    train(prepared, 35)
    newest = max(next(iter(stores(prepared))).glob("*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes(content)
    done = train(prepared)
    assert "refused, damaged (its content is not what was saved)" in done.stdout
    assert "resumed from epoch 2, step 0" in done.stdout
    assert results(prepared) == uninterrupted


def test_a_changed_state_is_damage_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands beside the tensors, such as the step, decides as well how training goes on."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    store = Store("a")
    store.save(Checkpoint({"x": torch.zeros(3)}, {"step": 4}))
    (path,) = store.folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes().replace(b'step\\": 4', b'step\\": 5'))
    assert b'step\\": 5' in path.read_bytes()
    assert store.load() is None


def test_no_whole_checkpoint(prepared: Path, uninterrupted: list[bytes]) -> None:
    train(prepared, 35)
    for path in next(iter(stores(prepared))).glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    done = train(prepared)
    assert done.stdout.count("refused, damaged") == 2
    assert "resumed" not in done.stdout
    assert results(prepared) == uninterrupted


def test_the_store_is_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """CHECKPOINT_DIR first, then the main checkout, which DVC names to the stages of a temporary one."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert Store("a").folder == Path(".dvc/tmp/checkpoints/a")
    monkeypatch.setenv("DVC_ROOT", "/main")
    assert Store("a").folder == Path("/main/.dvc/tmp/checkpoints/a")
    monkeypatch.setenv("CHECKPOINT_DIR", "/scratch")
    assert Store("a").folder == Path("/scratch/a")


def test_everything_that_decides_has_a_say_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input, and the code of every module of stages/ that is loaded; not the order of keys."""
    inputs = {"params": {"lr": 0.1, "seed": 0}, "data": {"sha256": "a"}}
    name = checkpoint.fingerprint(inputs)
    assert name == checkpoint.fingerprint(dict(reversed(inputs.items())))
    assert name != checkpoint.fingerprint(inputs | {"data": {"sha256": "b"}})
    assert name != checkpoint.fingerprint(inputs | {"params": {"lr": 0.1, "seed": 1}})
    edited = tmp_path / "checkpoint.py"
    edited.write_text(Path(checkpoint.__file__).read_text() + "\n")
    monkeypatch.setattr(checkpoint, "__file__", str(edited))
    assert name != checkpoint.fingerprint(inputs)


def test_two_trainers_of_one_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is told who holds the lock."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    holder = Store("same")
    with holder.locked():
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()} on .* is training this very experiment"),
            Store("same").locked(),
        ):
            pass
        with Store("other").locked():
            pass
    with Store("same").locked():
        pass


def test_saving_that_takes_long_is_done_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a save of 2 s, the next one at an epoch's end comes 40 s later at the soonest; cheap ones always come."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    store = Store("a")
    assert store.due
    store._cost = 2
    now += 39
    assert not store.due
    now += 2
    assert store.due
    assert store.age == 41
    store.save(Checkpoint({}, {}))
    assert store.age == 0
    assert store.due


def test_only_two_checkpoints_are_kept_and_old_stores_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    store = Store("a")
    for number in range(5):
        store.save(Checkpoint({"x": torch.full((3,), number)}, {"number": number}))
    assert [path.name for path in sorted(store.folder.iterdir())] == ["00000004.safetensors", "00000005.safetensors"]
    loaded = store.load()
    assert loaded
    assert loaded.state == {"number": 4}
    old = time.time() - 15 * 86400
    for path in store.folder.iterdir():
        os.utime(path, (old, old))
    with Store("b").locked():
        assert not store.folder.exists()
