"""A killed run goes on to the very bytes of one that was not; another experiment never does."""

import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.common import dependencies
from stages.common.errors import UserError
from stages.train import checkpoint, tensor_files
from stages.train.checkpoint import Checkpoint, Store
from tests.interruption import results, stores, train, without_results
from tests.project import BIN, ROOT, edit_params, run, sample_params, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set and what an uninterrupted run makes of it. Not to be changed: `prepared` gives copies."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "params.yaml").write_text(sample_params())
    write_images(folder / "data", {"cat": 100, "dog": 100}, side=8)
    edit_params(folder, model="resnet9", epochs=3, batch_size=8, device="auto")
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
    """Killed in the first and second epoch, and while the third one's checkpoint is being written: the bytes of an
    uninterrupted run, and nothing left behind."""
    edit_params(prepared, optimizer=optimizer, lr=0.01)
    assert train(prepared).returncode == 0
    expected = results(prepared)
    for at in (5, 20):  # counted anew in each process, which goes on from the last epoch that was finished
        assert train(prepared, at).returncode == -signal.SIGKILL
    assert train(prepared, saving=2).returncode == -signal.SIGKILL
    (folder,) = stores(prepared)
    assert len(list(folder.glob(".*.tmp"))) == 1
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
    (path,) = store.folder.glob("????????.safetensors")
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
    assert Store("a").folder == Path(f"/scratch/dvc-pytorch-{os.getuid()}/a")


def test_everything_that_decides_has_a_say_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input, and the code of every module of the project that is loaded; not the order of keys."""
    inputs = {"params": {"lr": 0.1, "seed": 0}, "data": {"sha256": "a"}}
    name = checkpoint.fingerprint(inputs)
    assert name == checkpoint.fingerprint(dict(reversed(inputs.items())))
    assert name != checkpoint.fingerprint(inputs | {"data": {"sha256": "b"}})
    assert name != checkpoint.fingerprint(inputs | {"params": {"lr": 0.1, "seed": 1}})
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)
    monkeypatch.setattr(checkpoint, "ROOT", tmp_path)
    # Also of a module that is in no room: dvc.yaml may list another folder.
    (tmp_path / "mine.py").write_text("answer = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("mine").answer == 1
    name = checkpoint.fingerprint(inputs)
    (tmp_path / "mine.py").write_text("answer = 2\n")
    assert name != checkpoint.fingerprint(inputs)
    del sys.modules["mine"]


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
    """After a save that took 2 s of training, the next one comes 100 s later at the soonest, in an epoch and at its
    end; and not while that one is being written."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "thread_time", lambda: 2.0)
    go_on = hold_writing(monkeypatch)
    store = Store("a")
    assert store.due
    with store.locked():
        store.save_beside(Checkpoint({}, {}))
        now += 1000
        assert not store.due
        go_on.set()
        store.wait()
        assert store.due
        store.save_beside(Checkpoint({}, {}))
        store.wait()
        now += 99
        assert not store.due
        assert store.age == 99
        now += 1
        assert store.due


def hold_writing(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before the event is set."""
    write, go_on = tensor_files.write_piece, threading.Event()

    def write_later(*arguments: Any) -> None:
        assert go_on.wait(60)
        write(*arguments)

    monkeypatch.setattr(tensor_files, "write_piece", write_later)
    return go_on


def test_training_that_goes_on_changes_nothing_of_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of any kind are copied before `save_beside` returns; the end waits for the file."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    tensors = {
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "transposed": torch.rand(3, 5).t(),
        "bf16": torch.rand(3).bfloat16(),
        "mask": torch.tensor([True, False, True]),
        "counter": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "large": torch.arange(600_001.0),
    }
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    curves = [{"epoch": 1, "loss": 0.1}]
    go_on = hold_writing(monkeypatch)
    store = Store("a")
    with store.locked():
        store.save_beside(Checkpoint(tensors, {"step": 1}, {"w": torch.ones(2)}, 1, curves))
        for tensor in tensors.values():
            tensor.zero_()
        curves.append({"epoch": 2, "loss": 0.2})
        go_on.set()
    saved = Store("a").load()
    assert saved is not None
    assert {name: tensor.dtype for name, tensor in saved.tensors.items()} == {n: t.dtype for n, t in before.items()}
    assert all(torch.equal(saved.tensors[name], before[name]) for name in before)
    assert (saved.best["w"].tolist(), saved.best_epoch, saved.curves) == ([1, 1], 1, curves[:1])


def test_files_that_checkpoints_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best epoch's weights are written when another epoch is the best, and a row of the curves once. Both stay
    while a checkpoint that is kept needs them. Where somebody has removed them, they are written again."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    curves: list[dict[str, float]] = []
    store = Store("a")

    def names() -> list[str]:
        return sorted(path.name.removesuffix(".safetensors") for path in store.folder.iterdir() if path.name != "lock")

    found, sizes = [], []
    with store.locked():
        for epoch, best in enumerate([1, 2, 2, 4, 4], 1):
            curves.append({"epoch": epoch, "loss": 1 / 3})
            store.save_beside(Checkpoint({"x": torch.zeros(3)}, {}, {"w": torch.full((9,), best)}, best, curves))
            store.wait()
            found.append([name for name in names() if "curves" not in name])
            sizes.append((store.folder / "00000001.curves.jsonl").stat().st_size)
        assert found == [
            ["00000001", "00000001.best"],
            ["00000001", "00000001.best", "00000002", "00000002.best"],
            ["00000002", "00000002.best", "00000003"],
            ["00000002.best", "00000003", "00000004", "00000004.best"],
            ["00000004", "00000004.best", "00000005"],
        ]
        row = len(json.dumps(curves[0])) + 1
        assert [after - before for before, after in itertools.pairwise(sizes)] == [row] * 4
        for path in store.folder.glob("*.*.*"):
            path.unlink()
        assert Store("a").load() is None
        store.save(Checkpoint({}, {}, {"w": torch.zeros(9)}, 4, curves))
        assert "00000006.best" in names()
    resumed = Store("a")
    saved = resumed.load()
    assert saved is not None
    assert saved.curves == curves
    with resumed.locked():
        resumed.save(saved._replace(curves=[*curves, {"epoch": 6, "loss": 0.5}]))
        resumed.save(saved._replace(curves=[*curves, {"epoch": 6, "loss": 0.5}]))
    # Of weights that it has read it needs no other copy; rows are added by the process alone that began their file.
    assert names() == ["00000006.best", "00000007", "00000007.curves.jsonl", "00000008"]
    assert len(saved.curves) + 1 == len(Store("a").load().curves)  # type: ignore[union-attr]


def save_until_killed(store: Store, point: int) -> None:
    """Save three times, in the thread; SIGKILL at the given moment, from 1, at which a file is opened, written to,
    renamed or removed."""
    moments = itertools.count(1)

    def die() -> None:
        if next(moments) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def audited(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove") and str(store.folder) in str(arguments[0]):
            die()

    write = tensor_files.write_piece

    def write_half(stream: FileIO, content: bytes | memoryview) -> None:
        write(stream, content[: len(content) // 2])
        die()
        write(stream, content[len(content) // 2 :])

    tensor_files.write_piece = write_half
    with store.locked():
        sys.addaudithook(audited)
        for number in (3, 4, 5):
            store.save_beside(example(number))
        store.wait()


def example(number: int) -> Checkpoint:
    """With other weights of a best epoch every second time."""
    rows = [{"epoch": float(epoch)} for epoch in range(1, number + 1)]
    best = number // 2
    return Checkpoint({"x": torch.full((5,), number)}, {"number": number}, {"w": torch.full((3,), best)}, best, rows)


def test_killed_at_any_moment_of_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole checkpoint is there, all of it of one moment; and the next run goes on saving, and leaves nothing."""
    loaded = []
    for point in itertools.count(1):
        monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / str(point)))
        (tmp_path / str(point)).mkdir()
        store = Store(NAME)
        with store.locked():
            store.save(example(1))
            store.save(example(2))
        child = os.fork()
        if not child:
            save_until_killed(Store(NAME), point)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        store = Store(NAME)
        with store.locked():
            saved = store.load()
            assert saved is not None
            number = saved.state["number"]
            loaded.append(number)
            expected = example(number)
            assert (saved.best_epoch, saved.curves) == (expected.best_epoch, expected.curves)
            assert torch.equal(saved.tensors["x"], expected.tensors["x"])
            assert torch.equal(saved.best["w"], expected.best["w"])
            store.save(example(number + 1))
            store.save(example(number + 2))
            assert len(list(store.folder.glob("*.curves.jsonl"))) == 1
            assert len(list(store.folder.glob("*.best.safetensors"))) <= 2
            store.clear()
        assert not store.folder.exists()
        if not os.WIFSIGNALED(status):
            break
    assert loaded == sorted(loaded)
    assert set(loaded) == {2, 3, 4, 5}
    assert len(loaded) > 40


NAME = "0123456789abcdef"


def let_age(folder: Path) -> None:
    old = time.time() - 15 * 86400
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (old, old), follow_symlinks=False)


def left_behind(name: str = NAME) -> Path:
    """A store with checkpoints, such as a killed process leaves."""
    store = Store(name)
    with store.locked():
        for number in range(5):
            store.save(Checkpoint({"x": torch.full((3,), number)}, {"number": number}))
    return store.folder


def test_only_two_checkpoints_are_kept_and_old_stores_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    folder = left_behind()
    assert sorted(path.name for path in folder.iterdir()) == ["00000004.safetensors", "00000005.safetensors", "lock"]
    (folder / ".00000006.safetensors.77.tmp").touch()  # killed before it wrote
    loaded = Store(NAME).load()
    assert loaded
    assert loaded.state == {"number": 4}
    let_age(folder)
    with Store("b" * 16).locked():
        assert not folder.exists()


def test_what_others_have_in_the_shared_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is called and however old it is; so does a store of an older version, and one that is trained."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    own = left_behind().parent
    for folder in (tmp_path / "thesis", tmp_path / NAME, own / "photos", own / ("1" * 16), own / ("2" * 16)):
        folder.mkdir()
        (folder / "00000001.safetensors").write_text("somebody else's")
    (own / ("2" * 16) / "lock").write_text("process 7 on node1")
    (own / ("3" * 16)).symlink_to(tmp_path / "thesis")
    left_behind("4" * 16)
    (own / ("5" * 16)).symlink_to(own / ("4" * 16))
    before = sorted(path for path in tmp_path.rglob("*") if own / NAME not in (path, *path.parents))
    let_age(tmp_path)
    with Store("4" * 16).locked():
        os.utime(own / ("4" * 16) / "lock", (0, 0))
        with Store("6" * 16).locked():
            pass
    shutil.rmtree(own / ("6" * 16))
    assert sorted(tmp_path.rglob("*")) == before


def test_files_of_others_in_a_store_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When a run has finished, and when its store has grown old; and neither is a link followed."""
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    folder = left_behind()
    (tmp_path / "precious").write_text("precious")
    (folder / "notes").mkdir()
    (folder / "00000001.safetensors").write_text("not tensors")
    (folder / "00000002.safetensors").symlink_to(tmp_path / "precious")
    (folder / ".00000003.safetensors.1.tmp").write_text("not ours")
    others = {"00000001.safetensors", "00000002.safetensors", ".00000003.safetensors.1.tmp", "notes"}
    let_age(folder)
    with Store("b" * 16).locked():
        assert {path.name for path in folder.iterdir()} == {*others, "lock"}
    assert "left alone, of others: '.00000003.safetensors.1.tmp', '00000001.safetensors'" in capsys.readouterr().out
    store = Store(NAME)
    with store.locked():
        assert store.load() is None
        store.save(Checkpoint({}, {}))
        assert {path.name for path in folder.iterdir()} == {*others, "00000003.safetensors", "lock"}
        store.clear()
    assert {path.name for path in folder.iterdir()} == {*others, "lock"}
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("place", ["", NAME])
def test_a_store_that_is_a_link(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / f"dvc-pytorch-{os.getuid()}" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="expected a folder of this user"), Store(NAME).locked():
        pass
    assert not any((tmp_path / "elsewhere").iterdir())
