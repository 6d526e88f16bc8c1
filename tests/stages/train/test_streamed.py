"""Training from shards that come from an S3 server through a tenth of their bytes: the weights of local shards,
whatever happens on the way."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.model import shard_storage, sharded, streaming
from stages.model.shard_storage import StorageLostError
from stages.prepare import __main__ as prepare
from stages.prepare import sharded as writer
from stages.train import __main__ as train
from stages.train import loader, loop
from tests import interruption
from tests.interruption import RESULTS, results
from tests.project import edit_params, sample_params, write_images
from tests.servers import KEY, SECRET, Server, free_port, s3

pytestmark = pytest.mark.slow
SMALL_WINDOWS = """
from stages.model import sharded, streaming
from stages.train import loader
sharded.WINDOW = streaming.WINDOW = loader.WINDOW = 2
"""


def push(prepared: Path, bucket: Path) -> str:
    """Put the files of prepared/ into a bucket, as `dvc push` does; what dvc.lock then says."""
    listing = []
    for file in sorted(path for path in prepared.rglob("*") if path.is_file()):
        digest = put(bucket, file.read_bytes())
        listing.append({"md5": digest, "relpath": file.relative_to(prepared).as_posix()})
    name = put(bucket, json.dumps(listing).encode(), ".dir")
    out = f"    - path: prepared\n      hash: md5\n      md5: {name}.dir\n"
    return f"schema: '2.0'\nstages:\n  prepare:\n    cmd: x\n    outs:\n{out}"


def put(bucket: Path, content: bytes, suffix: str = "") -> str:
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    file = bucket / "files/md5" / digest[:2] / (digest[2:] + suffix)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return digest


@pytest.fixture(scope="module")
def small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (sharded, streaming, loader):
            patch.setattr(module, "WINDOW", 2)
        patch.setattr(interruption, "PROGRAM", SMALL_WINDOWS + interruption.PROGRAM)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, small_windows: None) -> Path:
    """A project whose images lie in shards of one or two, pushed to served/bucket beside it, and what training makes
    of them; not to be changed."""
    folder = tmp_path_factory.mktemp("streamed") / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text(sample_params())
    write_images(folder / "data", {"cat": 200, "dog": 200, "owl": 200}, side=32, colour=True)
    edit_params(folder, image_size=32, shards_above=1, shard_quality=0, model="simplenet", epochs=1, batch_size=4)
    edit_params(folder, eval_batch_size=4)
    edit_params(folder, threads=1, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["stage"])
        patch.setattr(writer, "_MOST_BYTES", 2**14)
        prepare.main()
        train.main()
    (folder / "dvc.lock").write_text(push(folder / "prepared", folder.parent / "served/bucket/project"))
    (folder / ".dvc").mkdir(exist_ok=True)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `template` without shards and results, the current folder, which has them from a bucket."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    for name in RESULTS:
        (folder / name).unlink()
    size = sum(path.stat().st_size for path in (folder / "prepared/shards").iterdir())
    shutil.rmtree(folder / "prepared/shards")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setattr(streaming, "_opened", {})
    monkeypatch.setenv("SHARDS_FROM", "bucket")
    monkeypatch.setenv("SHARDS_CACHE_GB", str(size / 10 / 1e9))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("SHARDS_WAIT_SECONDS", "10")
    return folder


def name_remote(project: Path, port: int) -> None:
    (project / ".dvc/config").write_text(
        f"['remote \"bucket\"']\n    url = s3://bucket/project\n    endpointurl = http://127.0.0.1:{port}\n"
        f"    access_key_id = {KEY}\n    secret_access_key = {SECRET}\n"
    )


@pytest.fixture
def server(template: Path, project: Path) -> Iterator[Server]:
    with s3(template.parent / "served") as running:
        name_remote(project, running.port)
        yield running


def test_the_weights_of_local_shards(project: Path, template: Path, server: Server) -> None:
    """And a record of where they came from, with speed, that two runs need not share."""
    train.main()
    assert results(project) == results(template)
    assert json.loads((project / "metrics/run.json").read_text())["shards_from"] == "bucket"
    assert "shards_from" not in json.loads((template / "metrics/run.json").read_text())
    cached = sum(path.stat().st_size for path in (project / ".dvc/tmp/shards").glob("*.shard"))
    total = sum(path.stat().st_size for path in (template / "prepared/shards").iterdir())
    assert 0 < cached <= total / 10


def test_killed_in_an_epoch(project: Path, template: Path, server: Server) -> None:
    """By SIGKILL, with a signal to stop before: the next run goes on to the same bytes."""
    done = interruption.train(project, 3, 15)
    assert done.returncode == 75, done.stderr
    done = interruption.train(project, 6)
    assert done.returncode == -9
    done = interruption.train(project)
    assert "resumed from epoch 1, step 4" in done.stdout, done.stderr
    assert results(project) == results(template)


def test_the_storage_goes_for_good(
    project: Path, template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of an epoch: what was computed is saved, and goes on when it is back."""
    monkeypatch.setenv("SHARDS_WAIT_SECONDS", "0.2")
    monkeypatch.setattr(shard_storage, "_FIRST_PAUSE_SECONDS", 0.05)
    port = free_port()
    name_remote(project, port)
    steps: list[Any] = []
    training_loss = loop.training_loss
    with contextlib.ExitStack() as stack:
        stack.enter_context(s3(template.parent / "served", port))

        def counted(*args: Any) -> Any:
            steps.append(None)
            if len(steps) == 3:
                stack.close()
            return training_loss(*args)

        monkeypatch.setattr(loop, "training_loss", counted)
        with pytest.raises(StorageLostError, match=r"bucket: no answer for \d+ s \(Could not connect"):
            train.main()
    assert capsys.readouterr().err.count("shards: bucket fails (Could not connect to the endpoint URL") == 1
    monkeypatch.setattr(streaming, "_opened", {})
    with s3(template.parent / "served", port):
        train.main()
    (resumed,) = [line for line in capsys.readouterr().out.splitlines() if "resumed from epoch" in line]
    assert "step 0" not in resumed
    assert results(project) == results(template)
