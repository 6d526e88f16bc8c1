"""How a command ends when the user, not the program, has to act: one message, exit code 1, no traceback."""

import errno
import io
import os
import sys
from collections.abc import Callable

from stages.common import escape

# What the machine refuses: nothing in the program can mend it, so a traceback would only hide the reason.
_ENVIRONMENT_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


class UserError(Exception):
    """A mistake that the user can mend. Its text says what is wrong, what was expected, what came, and the remedy."""


def listed(lines: list[str]) -> str:
    """All the lines, indented: a person who has to mend files needs every one. No name in a line ends it."""
    return "\n".join(f"  {escape.terminal(line)}" for line in lines)


def run_main(main: Callable[[], None]) -> None:
    """Call `main` and end the process: users' mistakes with one message and exit code 1, Ctrl-C with 130.

    Everything else is a programming error and keeps its traceback.
    """
    # Of several processes that train together, all but the first say which they are.
    rank = os.environ.get("RANK", "0")
    prefix = "error" if rank == "0" else f"error (rank {rank})"
    _use_utf8_names()
    # A name that is not UTF-8, or not of the terminal's encoding, is shown, not a reason to end in a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        sys.exit(f"{prefix}: {escape.message(str(error))}")
    except BrokenPipeError:
        # Whoever read the output has gone, as `| head` does. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRNOS:
            raise
        what = escape.terminal(str(error.filename or "writing a file"))
        sys.exit(f"{prefix}: {what}: {error.strerror}. Free the space or grant the right, then run again.")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _use_utf8_names() -> None:
    """Start this program again in Python's UTF-8 mode (PEP 540) where an 8-bit locale would have it read the names of
    files, and so of classes, as other letters than everybody else. What it prints keeps the locale's encoding."""
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
