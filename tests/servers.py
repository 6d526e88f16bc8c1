"""Real servers on loopback: S3 storage by rclone, SSH by OpenSSH, images by Debian's docker-registry."""

import contextlib
import getpass
import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.project import BIN

KEY, SECRET = "an-access-key", "a-secret-key"  # pragma: allowlist secret
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
def sftp(folder: Path, public_key: Path) -> Iterator[Server]:
    """`rclone serve sftp`: SSH's file transfer for whoever has the key. No log-in otherwise, and no shell."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command: list[str | Path] = [BIN / "rclone", "serve", "sftp", "--addr", f"127.0.0.1:{port}"]
    command += ["--authorized-keys", public_key, folder]
    with _running(command, port, folder.parent / "sftp.log"):
        yield Server(port, folder)


@contextmanager
def registry(folder: Path) -> Iterator[Server]:
    """A registry of images, without log-in. Skips the test where the program is missing."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry here; Debian's package of that name has it")
    folder.mkdir()
    port = free_port()
    config = folder.parent / "registry.yml"
    config.write_text(
        f"version: 0.1\nhttp: {{addr: '127.0.0.1:{port}'}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
    )
    with _running([program, "serve", config], port, folder.parent / "registry.log"):
        yield Server(port, folder)


class Proxy(NamedTuple):
    """Where a proxy listens, and the event that it passes nothing on any more."""

    port: int
    stalled: threading.Event


@contextmanager
def stalling_proxy(port: int, after_bytes: int) -> Iterator[Proxy]:
    """Passes on to `port` of this machine until clients have sent so many bytes, and then holds all that comes."""
    stalled = threading.Event()
    ended = threading.Event()
    budget = [after_bytes]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                threading.Thread(target=self.answer, args=(server,), daemon=True).start()
                while content := self.request.recv(4096):
                    budget[0] -= len(content)
                    if budget[0] < 0:
                        stalled.set()
                        ended.wait()
                        return
                    server.sendall(content)

        def answer(self, server: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while content := server.recv(4096):
                    self.request.sendall(content)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield Proxy(proxy.server_address[1], stalled)
        finally:
            ended.set()
            proxy.shutdown()


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
