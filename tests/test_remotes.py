"""Storage that fails, by real servers: what is wrong is said, nothing is lost, and a second try completes.

That it works, by the page's commands, is tests/test_docs.py::test_remote_storage.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.project import BIN, COLD, run, user_environment
from tests.servers import KEY, SECRET, Server, free_port, s3, sftp, ssh, stalling_proxy

DVC = BIN / "dvc"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
WEIGHTS = ["train", "evaluate"]


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon's library tries a request five times, with pauses; one failure is enough here."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def use_bucket(folder: Path, port: int, *, bucket: str = "bucket") -> None:
    run([DVC, "remote", "add", "--default", "--force", "bucket", f"s3://{bucket}/project"], folder)
    run([DVC, "remote", "modify", "bucket", "endpointurl", f"http://127.0.0.1:{port}"], folder)


def use_keys(folder: Path, secret: str = SECRET) -> None:
    run([DVC, "remote", "modify", "--local", "bucket", "access_key_id", KEY], folder)
    run([DVC, "remote", "modify", "--local", "bucket", "secret_access_key", secret], folder)


def use_server(folder: Path, server: Server, key: Path, place: str) -> None:
    url = f"ssh://{os.environ.get('USER', 'root')}@127.0.0.1:{server.port}{place}"
    run([DVC, "remote", "add", "--default", "--force", "server", url], folder)
    run([DVC, "remote", "modify", "--local", "server", "keyfile", key], folder)


def make_keys(folder: Path, *names: str) -> None:
    for name in names:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)


def push_fails(folder: Path) -> str:
    """What `dvc push` says when it fails; what is in the cache stays there."""
    before = cached(folder)
    done = run([DVC, "push", *WEIGHTS], folder, expect=None)
    assert "Traceback" not in done.stderr
    assert cached(folder) == before
    return done.stderr


def cached(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / ".dvc/cache/files").rglob("*") if path.is_file())


def is_complete(folder: Path) -> bool:
    status = run([DVC, "status", "--cloud", *WEIGHTS], folder).stdout
    return "are in sync" in status


def test_s3_that_is_down_forbids_or_has_no_such_bucket(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_reproduced("trouble")
    port = free_port()
    use_bucket(folder, port)
    use_keys(folder)
    assert f'Could not connect to the endpoint URL: "http://127.0.0.1:{port}/bucket' in push_fails(folder)
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    with s3(tmp_path / "served", port):
        use_keys(folder, secret="wrong")  # pragma: allowlist secret
        assert "signature" in push_fails(folder)
        (folder / ".dvc/config.local").unlink()
        assert "Unable to locate credentials" in push_fails(folder)
        use_keys(folder)
        use_bucket(folder, port, bucket="nothing")
        assert "The specified bucket does not exist" in push_fails(folder)
        use_bucket(folder, port)
        run([DVC, "push", *WEIGHTS], folder)
        assert is_complete(folder)


def test_s3_that_is_down_does_not_stop_make_repro(clone: Path, copy_reproduced: Callable[[str], Path]) -> None:
    """The sample is written, and the stages make what nobody can give."""
    reproduced = copy_reproduced("reproduced")
    for folder in (clone, reproduced):
        use_bucket(folder, free_port())
        use_keys(folder)
        run("git commit --quiet --all --message storage", folder)
    said = run("make data", clone).stdout
    assert re.search(r"data: the remote cannot be read \(.*Could not connect to the endpoint URL", said)
    assert "wrote the embedded sample" in said
    run("rm -r .dvc/cache predictions.csv", reproduced)
    said = run("make results", reproduced).stdout
    assert re.search(r"results: the remote cannot be read \(.*Could not connect to the endpoint URL", said)


def test_keys_from_the_environment(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """As .env gives them; no .dvc/config.local anywhere."""
    folder = copy_reproduced("project")
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    with s3(tmp_path / "served") as server:
        use_bucket(folder, server.port)
        run([DVC, "push", *WEIGHTS], folder, **keys)  # type: ignore[arg-type]
        shutil.rmtree(folder / ".dvc/cache/files")
        (folder / "models/model.safetensors").unlink()
        run([DVC, "pull", *WEIGHTS], folder, **keys)  # type: ignore[arg-type]
    assert (folder / "models/model.safetensors").exists()


@pytest.mark.skipif(SSHD is None, reason="no sshd here; Debian's package openssh-server has it")
def test_openssh(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """A key that is unknown, missing or none is said; the permissions of a key are no obstacle for DVC's own SSH."""
    folder = copy_reproduced("ssh")
    make_keys(tmp_path, "known", "unknown")
    (tmp_path / "text").write_text("not a key\n")
    (tmp_path / "known").chmod(0o644)
    with ssh(tmp_path / "server", tmp_path / "known.pub") as server:
        place = f"{server.folder}/storage"
        for key, expected in {
            "unknown": "Permission denied for user",
            "missing": "No such file or directory",
            "text": "Invalid private key",
        }.items():
            use_server(folder, server, tmp_path / key, place)
            assert expected in push_fails(folder)
        use_server(folder, server, tmp_path / "known", place)
        run([DVC, "push", *WEIGHTS], folder)
        assert is_complete(folder)
    assert "Connect call failed" in push_fails(folder)


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[str], None]]:
    """A disk of 24 kB at `folder`; what is given changes its size."""
    if os.getuid() != 0:
        pytest.skip("a small disk takes root, who may mount one")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_at_the_other_end(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_reproduced("project")
    make_keys(tmp_path, "key")
    with small_disk(tmp_path / "disk") as resize:
        (tmp_path / "disk" / "bucket").mkdir()
        with s3(tmp_path / "disk") as server:
            use_bucket(folder, server.port)
            use_keys(folder)
            message = push_fails(folder)
            assert "Internal Error" in message
            assert "failed to push data to the cloud - " in message
            assert not is_complete(folder)
            resize("10m")
            run([DVC, "push", *WEIGHTS], folder)
            assert is_complete(folder)
        shutil.rmtree(tmp_path / "disk" / "bucket")
        resize("24k")
        with sftp(tmp_path / "disk", tmp_path / "key.pub") as server:
            use_server(folder, server, tmp_path / "key", "/storage")
            assert "failed to push data to the cloud - " in push_fails(folder)
            resize("10m")
            run([DVC, "push", *WEIGHTS], folder)
            assert is_complete(folder)


def test_a_server_that_stalls_and_a_push_that_is_killed(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """After some kilobytes nothing goes on; the push is killed there, and the next one sends what is missing."""
    folder = copy_reproduced("project")
    before = cached(folder)
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    with s3(tmp_path / "served") as server, stalling_proxy(server.port, after_bytes=20_000) as proxy:
        use_bucket(folder, proxy.port)
        use_keys(folder)
        command: list[str | Path] = [COLD / "bin/dvc", "push", *WEIGHTS]
        push = subprocess.Popen(command, cwd=folder, env=user_environment(), start_new_session=True)
        assert proxy.stalled.wait(60)
        assert push.poll() is None
        os.killpg(push.pid, signal.SIGKILL)
        push.wait()
        use_bucket(folder, server.port)
        assert not is_complete(folder)
        run([DVC, "push", *WEIGHTS], folder)
        assert is_complete(folder)
    assert cached(folder) == before
