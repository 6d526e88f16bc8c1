"""Real storage servers on loopback: S3 by rclone, SSH by OpenSSH."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.project import BIN

KEY, SECRET = "an-access-key", "a-secret-key"
_PATIENCE_SECONDS = 30


class Server(NamedTuple):
    """Where a server listens, and the folder that it serves."""

    port: int
    folder: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3(folder: Path, port: int | None = None) -> Iterator[Server]:
    """`rclone serve s3`: each folder in `folder` is a bucket."""
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    address = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    command: list[str | Path] = [BIN / "rclone", "serve", "s3", *address, folder]
    with _running(command, port, folder / ".." / "s3.log"):
        yield Server(port, folder)


@contextmanager
def ssh(folder: Path, public_key: Path) -> Iterator[Server]:
    """sshd that lets in whoever has the key, by no password."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert sshd
    folder.mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"], check=True)
    port = free_port()
    (folder / "sshd_config").write_text(
        f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {folder}/host_key
        AuthorizedKeysFile {public_key}
        PasswordAuthentication no
        PermitRootLogin prohibit-password
        StrictModes no
        UsePAM no
        PidFile none
        Subsystem sftp internal-sftp
        """
    )
    if getpass.getuser() == "root":
        # Where sshd drops its rights, before anybody has logged in.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with _running([sshd, "-D", "-e", "-f", folder / "sshd_config"], port, folder / "sshd.log"):
        yield Server(port, folder)


@contextmanager
def _running(command: list[str | Path], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            until = time.monotonic() + _PATIENCE_SECONDS
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            yield
        finally:
            process.terminate()
            process.wait()
