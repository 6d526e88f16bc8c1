"""What a process in the sandbox sees, writes and reaches; tests/review/test_reproduce.py looks for secrets in it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from review import sandbox
from tests.project import COLD, ROOT, run

pytestmark = pytest.mark.skipif(sandbox.why_unavailable() != "", reason=f"no sandbox: {sandbox.why_unavailable()}")


def confined(place: Path, script: str, expect: int = 0) -> str:
    """What a shell script prints in the sandbox."""
    done = run(
        sandbox.command(place, "sh", "-c", script), place, expect=expect, PATH="/usr/bin:/bin", HOME=str(sandbox.HOME)
    )
    return done.stdout


def test_one_folder_is_written_to_and_none_of_others_is_there(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "secret").write_text("s")
    (place / "link").symlink_to("../secret")
    script = f"pwd; ls -A .. $HOME; cat link {tmp_path}/secret; touch {COLD.resolve()}/new /usr/new; echo y > kept"
    assert confined(place, script) == f"{place}\n..:\nplace\n\n{sandbox.HOME}:\n"
    assert (place / "kept").read_text() == "y\n"
    assert not (COLD / "new").exists()
    # Nobody's work outlives the program, and its exit code is that of the command.
    assert confined(place, "(trap '' TERM HUP; while :; do :; done) & exit 7", expect=7) == ""


def test_it_has_no_rights_and_gets_none(tmp_path: Path) -> None:
    """Not those of root in its namespace, and not by a namespace of its own."""
    assert set(confined(tmp_path, "grep Cap /proc/self/status | cut -f 2").split()) == {"0" * 16}
    script = "mount -o remount,rw /usr || unshare -rm sh -c 'mount -o remount,rw /usr && touch /usr/new' || echo no"
    assert confined(tmp_path, script) == "no\n"


def test_processes_meet_on_a_localhost_of_their_own(tmp_path: Path) -> None:
    code = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].send(b"hello")).start()
print(socket.create_connection(server.getsockname()).recv(9).decode(), [name for _, name in socket.if_nameindex()][:1])
"""
    done = run(sandbox.command(tmp_path, f"{COLD.resolve()}/bin/python", "-c", code), tmp_path)
    assert done.stdout == "hello ['lo']\n"


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alive")
    command = sandbox.command(tmp_path, "sh", "-c", "exec 3> alive; echo ready; exec tail -f /dev/null")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE)
    with (tmp_path / "alive").open() as pipe:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Ends when the last process has closed it.
        assert pipe.read() == ""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")
def test_a_kernel_that_refuses_is_told(tmp_path: Path) -> None:
    code = "from review import sandbox; print('because:', sandbox.why_unavailable())"
    script = f'echo 0 > /proc/sys/user/max_user_namespaces && exec {COLD.resolve()}/bin/python -c "{code}"'
    done = run(["unshare", "--user", "--map-root-user", "sh", "-c", script], ROOT)
    assert done.stdout == "because: unshare: No space left on device\n"
