"""Storage that a team has, by real servers: what is pushed once is had everywhere, and a failure loses nothing."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import BIN, run
from tests.servers import KEY, SECRET, Server, free_port, s3, ssh

DVC = BIN / "dvc"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def use_bucket(folder: Path, port: int, *, bucket: str = "bucket", secret: str = SECRET) -> None:
    """The README's commands, with what differs for a server that is not Amazon's."""
    run([DVC, "remote", "add", "--default", "--force", "bucket", f"s3://{bucket}/project"], folder)
    run([DVC, "remote", "modify", "bucket", "endpointurl", f"http://127.0.0.1:{port}"], folder)
    run([DVC, "remote", "modify", "--local", "bucket", "access_key_id", KEY], folder)
    run([DVC, "remote", "modify", "--local", "bucket", "secret_access_key", secret], folder)


def colleague_of(folder: Path, place: Path) -> Path:
    """A clone with this .venv, without cache or credentials."""
    run("git add .dvc/config && git diff --cached --quiet || git commit --quiet --message storage", folder)
    run(["git", "clone", "--quiet", folder, place], folder)
    (place / ".venv").symlink_to(folder / ".venv")
    return place


def use_credentials(folder: Path) -> None:
    run([DVC, "remote", "modify", "--local", "bucket", "access_key_id", KEY], folder)
    run([DVC, "remote", "modify", "--local", "bucket", "secret_access_key", SECRET], folder)


def cached(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / ".dvc/cache/files").rglob("*") if path.is_file())


def test_s3_gives_a_colleague_data_and_weights_without_training(
    copy_reproduced: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_reproduced("s3")
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    with s3(tmp_path / "served") as server:
        use_bucket(folder, server.port)
        run([DVC, "push"], folder)
        colleague = colleague_of(folder, tmp_path / "colleague")
        use_credentials(colleague)
        done = run("make repro", colleague)
    assert "data: data/ is there, from the cache or the remote" in done.stdout
    assert (
        "results: prepared, models/model.json, models/model.safetensors, predictions.csv, reports/report.html: there"
        in (done.stdout)
    )
    assert "Running stage" not in done.stdout
    assert "identical byte for byte (17 of 17 outputs)" in done.stdout
    assert "secret" not in (folder / ".dvc/config").read_text()


def test_s3_that_is_down_forbids_or_has_no_such_bucket(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """Each is named by DVC, nothing here is lost, and the second try completes."""
    folder = copy_reproduced("trouble")
    before = cached(folder)
    port = free_port()
    use_bucket(folder, port)
    down = run([DVC, "push"], folder, expect=None)
    assert f"127.0.0.1:{port}" in down.stderr
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    with s3(tmp_path / "served", port):
        use_bucket(folder, port, secret="wrong")
        assert "Forbidden" in run([DVC, "push"], folder, expect=None).stderr
        use_bucket(folder, port, bucket="nothing")
        assert "bucket does not exist" in run([DVC, "push"], folder, expect=None).stderr
        use_bucket(folder, port)
        assert cached(folder) == before
        run([DVC, "push"], folder)
        assert "No files" not in run([DVC, "status", "--cloud"], folder).stdout
    colleague = colleague_of(folder, tmp_path / "colleague")
    use_credentials(colleague)
    done = run("make repro", colleague)
    assert "wrote the embedded sample" in done.stdout
    assert "not to be had" in done.stdout
    assert "identical byte for byte" in done.stdout


@pytest.mark.skipif(SSHD is None, reason="no sshd here; Debian's package openssh-server has it")
def test_ssh(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """By the README's commands; a key that the server does not know is refused."""
    folder = copy_reproduced("ssh")
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("known", "unknown"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    with ssh(tmp_path / "server", keys / "known.pub") as server:
        use_ssh(folder, server, keys / "unknown")
        assert "ermission denied" in run([DVC, "push"], folder, expect=None).stderr
        run([DVC, "remote", "modify", "--local", "server", "keyfile", keys / "known"], folder)
        run([DVC, "push"], folder)
        colleague = colleague_of(folder, tmp_path / "colleague")
        run([DVC, "remote", "modify", "--local", "server", "keyfile", keys / "known"], colleague)
        run([DVC, "pull"], colleague)
    assert run([DVC, "status"], colleague).stdout.strip() == "Data and pipelines are up to date."


def use_ssh(folder: Path, server: Server, key: Path) -> None:
    url = f"ssh://{os.environ.get('USER', 'root')}@127.0.0.1:{server.port}{server.folder}/storage"
    run([DVC, "remote", "add", "--default", "server", url], folder)
    run([DVC, "remote", "modify", "--local", "server", "keyfile", key], folder)
