"""Shards from a real S3 server on loopback: what comes is right or refused, and the folder never holds too much."""

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.model import shard_storage, streaming
from stages.model.shard_storage import StorageLostError
from stages.model.sources import Shard, open_shards
from stages.model.streaming import StreamedShards
from tests.servers import KEY, SECRET, Server, free_port, s3

pytestmark = pytest.mark.slow

SIZE = 10_000
NUMBER = 10
# Further ones that the storage lacks, or has as something else.
MISSING, ANOTHER, TRUNCATED = range(NUMBER, NUMBER + 3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A bucket with ten shards of 10 kB, as `dvc push` would put them there, and with those that are not right."""
    folder = tmp_path_factory.mktemp("s3") / "served"
    objects = {md5(content(number)): content(number) for number in range(NUMBER)}
    objects |= {md5(content(ANOTHER)): content(0), md5(content(TRUNCATED)): content(TRUNCATED)[:-1]}
    for name, text in {**objects, md5(LISTING) + ".dir": LISTING}.items():
        file = folder / "bucket/project/files/md5" / name[:2] / name[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    with s3(folder) as running:
        yield running


def content(number: int) -> bytes:
    return bytes([number]) * SIZE


def md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


SHARDS = [
    Shard(f"shards/train-{number:05}.bin", SIZE, hashlib.sha256(content(number)).hexdigest())
    for number in range(NUMBER + 3)
]
LISTING = json.dumps([{"md5": md5(content(n)), "relpath": shard.name} for n, shard in enumerate(SHARDS)]).encode()
Use = Callable[..., StreamedShards]


@pytest.fixture
def use(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Make `tmp_path` a project whose remote is the bucket, at the server or through another port; its shards, streamed
    through a folder for three of them."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  prepare:\n    cmd: x\n    outs:\n    - path: prepared\n      hash: md5\n"
        f"      md5: {md5(LISTING)}.dir\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDS_FROM", "bucket")
    monkeypatch.setenv("SHARDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SHARDS_CACHE_GB", str(3 * SIZE / 1e9))
    monkeypatch.setenv("SHARDS_WAIT_SECONDS", "30")
    # Amazon's library would try five times by itself, with pauses.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(shard_storage, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "WINDOW", 1)

    def opened(port: int = server.port, secret: str = SECRET, shards: list[Shard] = SHARDS) -> StreamedShards:
        monkeypatch.setattr(streaming, "_opened", {})
        (tmp_path / ".dvc/config").write_text(
            f"['remote \"bucket\"']\n    url = s3://bucket/project\n    endpointurl = http://127.0.0.1:{port}\n"
            f"    access_key_id = {KEY}\n    secret_access_key = {secret}\n"
        )
        source = open_shards(shards, tmp_path / "prepared", "")
        assert isinstance(source, StreamedShards)
        return source

    return opened


def test_all_come_through_a_folder_for_three(use: Use, tmp_path: Path) -> None:
    """Announced or not, in two passes; at no time are there more bytes than may be."""
    source = use()
    for _ in range(2):
        source.fetch(range(NUMBER - 1))
        for number in range(NUMBER):
            assert source.path(number).read_bytes() == content(number)
            # All are of one size; one that was listed may be gone by now.
            there = [path for path in list((tmp_path / "cache").glob("*.shard")) if path.exists()]
            assert len(there) <= 3
            source.release(number)
    assert {path.suffix or path.name for path in (tmp_path / "cache").iterdir()} == {".shard", ".dvc-pytorch-shards"}


def test_a_shard_in_use_stays(use: Use) -> None:
    source = use()
    kept = source.path(0)
    for number in range(1, NUMBER):
        source.path(number)
        source.release(number)
    assert kept.read_bytes() == content(0)


def test_two_share_a_folder(use: Use, tmp_path: Path) -> None:
    """Neither removes what the other uses; when both use all of it, the one that wants more says so."""
    one, other = use(), use()
    one.path(0), one.path(1)
    assert other.path(1).read_bytes() == content(1)
    other.path(2)
    other._patience = 0
    with pytest.raises(UserError, match=r"cache: other processes use all of its 3e-05 GB"):
        other.path(3)
    one.release(0)
    assert other.path(3).read_bytes() == content(3)


def test_a_folder_too_small_for_two_windows(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WINDOW", 2)
    with pytest.raises(UserError, match=r"SHARDS_CACHE_GB: 3e-05 GB do not hold 4 shards, .*: 4e-05 GB\. Raise it"):
        use()
    assert use(shards=SHARDS[:3]).path(0).read_bytes() == content(0)


def test_a_folder_too_small_for_the_steps(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDS_WAIT_SECONDS", "0.1")
    source = use()
    with pytest.raises(UserError, match="SHARDS_CACHE_GB: 3e-05 GB do not hold the 4 shards that are needed together"):
        for number in range(4):
            source.path(number)


def test_what_a_killed_process_left_is_removed(use: Use, tmp_path: Path) -> None:
    """It had begun with other shards; its locks are gone."""
    source = use()
    for name in ("a" * 64, SHARDS[0].sha256):
        (tmp_path / f"cache/{name}.{2 * SIZE}.part").touch()
        (tmp_path / f"cache/{name}.data").write_bytes(b"half")
    source.path(0), source.path(1), source.path(2)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_folder_of_somebody(use: Use, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/thesis.txt").touch()
    with pytest.raises(UserError, match=r"cache: expected an empty folder, or one of shards; it holds 'thesis.txt'"):
        use()


def test_what_another_put_there_is_checked(use: Use, tmp_path: Path) -> None:
    """Another file of that name, and one that is cut off, are fetched anew."""
    source = use()
    (tmp_path / f"cache/{SHARDS[0].sha256}.shard").write_bytes(content(1))
    (tmp_path / f"cache/{SHARDS[1].sha256}.shard").write_bytes(content(1)[:-1])
    assert source.path(0).read_bytes() == content(0)
    assert source.path(1).read_bytes() == content(1)


@pytest.mark.parametrize("number", [ANOTHER, TRUNCATED])
def test_damaged_in_the_storage(use: Use, number: int, tmp_path: Path) -> None:
    """Nothing of it stays; the others are still there for who wants them."""
    source = use()
    source.fetch([number, 4])
    with pytest.raises(UserError, match=r"bin: bucket delivers another file than prepare wrote, twice \((SHA|9,999)"):
        source.path(number)
    assert source.path(4).read_bytes() == content(4)
    assert not list((tmp_path / "cache").glob(f"{SHARDS[number].sha256}*"))


def test_missing_in_the_storage(use: Use) -> None:
    with pytest.raises(UserError, match=r"prepared/shards/train-00010.bin: not in bucket. Have whoever ran prepare"):
        use().path(MISSING)


def test_of_another_version(use: Use) -> None:
    """prepared/dataset.json names a shard that dvc.lock's version does not have."""
    source = use(shards=[Shard("shards/train-00099.bin", SIZE, "0" * 64)])
    with pytest.raises(UserError, match=r"train-00099.bin: not in the version of prepared/ that dvc.lock names"):
        source.path(0)


def test_refused(use: Use) -> None:
    """403 is not asked again."""
    with pytest.raises(UserError, match=r"the listing of prepared/: refused by bucket \(The request signature"):
        use(secret="wrong")  # pragma: allowlist secret


def test_no_such_remote(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDS_FROM", "bukcet")
    with pytest.raises(UserError, match=r"SHARDS_FROM=bukcet: .*remote 'bukcet' doesn't exist"):
        use()


@pytest.mark.parametrize("variable", ["SHARDS_CACHE_GB", "SHARDS_WAIT_SECONDS"])
def test_settings_that_are_none(use: Use, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "ten")
    with pytest.raises(UserError, match=f"{variable}: expected a number above 0, got 'ten'"):
        use()


def test_503_for_a_while(use: Use, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """Asked again until it answers; both are said, once."""
    source = use(server.port)
    with failing(server.port, times=3) as port:
        source = use(port)
        source.fetch(range(3))
        assert source.path(0).read_bytes() == content(0)
    said = capfd.readouterr().err
    assert said.count("shards: bucket fails (") == said.count("shards: bucket answers again, after ") == 1


def test_gone_for_good(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDS_WAIT_SECONDS", "0.1")
    started = time.monotonic()
    with pytest.raises(StorageLostError, match=r"bucket: no answer for 0 s \(Could not connect to the endpoint URL"):
        use(free_port())
    assert time.monotonic() - started < 30


def test_addresses_are_shown_without_users() -> None:
    assert shard_storage.shown("https://me:secret@host/x") == "https://host/x"  # pragma: allowlist secret


@contextmanager
def failing(port: int, times: int) -> Iterator[int]:
    """A port that answers 503 so many times, and then passes on to `port` of this machine."""
    left = [times]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if left[0] > 0:
                left[0] -= 1
                self.send_error(503)
                return
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy.server_address[1]
        finally:
            proxy.shutdown()
