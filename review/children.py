"""Commands that end with this process, with all that they have started, however it ends: by SIGKILL, too.

Between the two is a small process, which this file is itself as a program. It reads from a pipe that only this process
can write to, so its end of file is the death of this process, and on Linux it adopts what its descendants leave
(PR_SET_CHILD_SUBREAPER of man 2 prctl), so that none escapes by a session of its own, as torchrun's workers have.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

# From <linux/prctl.h>.
_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def started(command: Sequence[str | Path], **options: Any) -> "Iterator[subprocess.Popen[bytes]]":
    """`command` at work, with `options` of Popen. Whatever of it is at work at the end is killed."""
    reader, writer = os.pipe()
    try:
        python = Path(sys.prefix, "bin/python")
        # -S: the command gets the PATH of this process, which scripts/startup.py has set up once.
        supervisor = [python, "-IS", Path(__file__).resolve(), str(reader), *command]
        process = subprocess.Popen(supervisor, pass_fds=[reader], **options)
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    try:
        yield process
    finally:
        os.close(writer)
        process.wait()


def _main() -> NoReturn:
    pipe, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    # Handled, not ignored, which the command would inherit. Ctrl-C is the command's own matter.
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    while (code := child.poll()) is None:
        ready, _, _ = select.select([woken, int(pipe)], [], [])
        if int(pipe) in ready:
            child.kill()
            _kill_children()
            os._exit(1)
        os.read(woken, 4096)
    sys.exit(code if code >= 0 else 128 - code)


def _kill_children() -> None:
    """Kill and reap until there are none; the children of those that die become children of this process."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for process in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            os.wait()


def _children() -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # <pid> (<name>) <state> <parent> ...; a name may have spaces and parentheses.
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                yield int(stat.parent.name)


if __name__ == "__main__":
    _main()
