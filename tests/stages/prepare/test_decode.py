"""Decoding on all cores: the same result for any number of processes; nothing half-written when something ends it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from stages.prepare import __main__ as prepare
from stages.prepare import processes
from tests.project import ROOT, edit_params, user_environment, write_images


@pytest.fixture
def many_chunks(image_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "_CHUNK_IMAGES", 16)
    return image_workspace


@pytest.mark.parametrize("cores", [2, 3])
def test_processes_have_no_say_in_the_result(many_chunks: Path, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    Path("data/cat/notes.txt").write_text("not an image")
    Image.new("RGB", (30, 20), "red").save("data/dog/red.jpg")
    edit_params(many_chunks, on_corrupt="quarantine")
    prepare.main()
    alone = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    monkeypatch.setattr(processes, "_ALONE_BELOW_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    prepare.main()
    assert alone == {path.name: path.read_bytes() for path in Path("prepared").iterdir()}


def start(folder: Path, code: str) -> "subprocess.Popen[str]":
    """A prepare with two processes, after some lines of Python that change it."""
    program = (
        "import os, signal\nfrom stages.common import errors\n"
        "from stages.prepare import __main__ as prepare, decode, processes\n"
        "processes._ALONE_BELOW_BYTES = 0\n"
        "os.sched_getaffinity = lambda _: {0, 1}\n" + code + "\nerrors.run_main(prepare.main)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env=user_environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def prepared_before(image_workspace: Path) -> bytes:
    """The manifest of an earlier run, which a failing one must leave alone."""
    prepare.main()
    return Path("prepared/manifest.csv").read_bytes()


@pytest.mark.slow
def test_a_killed_process(image_workspace: Path, prepared_before: bytes) -> None:
    """As the system does when memory runs out: a message, no traceback, the earlier result untouched."""
    process = start(image_workspace, "decode.to_square = lambda *_: os.kill(os.getpid(), signal.SIGKILL)")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: prepare: a process of several was killed")
    assert Path("prepared/manifest.csv").read_bytes() == prepared_before
    assert not Path(".prepared.tmp").exists()


def test_ctrl_c(image_workspace: Path, prepared_before: bytes) -> None:
    """Ctrl-C in the middle, which reaches all processes: one word, exit code 130, the earlier result untouched."""
    # The decoding processes wait for a word that never comes; the first process says when they have begun.
    process = start(
        image_workspace,
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "decode.to_square = lambda *_: (os.write(1, b'begun\\n'), os.read(os.pipe()[0], 1))",
    )
    assert process.stdout
    for line in process.stdout:
        if line == "begun\n":
            break
    os.killpg(process.pid, signal.SIGINT)
    # The first process lets the others finish what they have begun, which here has no end.
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(int(child), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert Path("prepared/manifest.csv").read_bytes() == prepared_before
    assert not Path(".prepared.tmp").exists()


@pytest.mark.slow
def test_a_full_disk(image_workspace: Path) -> None:
    """On a real file system without space: a message, no half-written output, the earlier prepared/ untouched."""
    disk = image_workspace / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        write_images(disk / "data", {"a": 40, "b": 40}, side=4)
        (disk / "prepared").mkdir()
        (disk / "prepared" / "manifest.csv").write_text("of an earlier run")
        (disk / "params.yaml").write_text(Path("params.yaml").read_text())
        edit_params(disk, image_size=256)
        process = start(disk, "")
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "No space left on device" in errors
        assert "Traceback" not in errors
        assert (disk / "prepared" / "manifest.csv").read_text() == "of an earlier run"
        assert not (disk / ".prepared.tmp").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_read(image_workspace: Path, prepared_before: bytes) -> None:
    """Root may read anything, so as root the right to override permissions is dropped first."""
    drop = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("runs as root, and there is no setpriv to drop root's right to read everything")
        rights = "-dac_override,-dac_read_search"
        drop = ["setpriv", "--bounding-set", rights, "--inh-caps", rights]
    Path("data/cat").chmod(0)
    try:
        done = subprocess.run(
            [*drop, sys.executable, "-m", "stages.prepare"],
            env=user_environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
        )
    finally:
        Path("data/cat").chmod(0o755)
    assert done.returncode == 1
    assert "error: data/cat: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("prepared/manifest.csv").read_bytes() == prepared_before
