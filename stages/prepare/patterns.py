"""group_pattern: a regular expression that finds the group of an image in its path, within a time."""

import re
import signal
import sqlite3
from types import FrameType

from stages.common.errors import UserError

# Of the processor's time, whatever else runs; a usual pattern takes a microsecond for a path.
_SECONDS = 5
_SECONDS_PER_PATH = 20e-6


class _TooSlow(Exception):  # noqa: N818  # it says what is wrong
    """The time is over."""


def find_groups(table: sqlite3.Connection, pattern: str) -> None:
    """Fill in the group of every image: the expression's first group, or all that it matches; null without a match.

    A match can take a time that is exponential in a path's length, as with `(.+)+x`. Raises UserError where it does.
    """
    expression = re.compile(pattern)
    current = ""

    def group(path: str) -> str | None:
        nonlocal current
        current = path
        match = expression.search(path)
        return match and match[1 if expression.groups else 0]

    def stop(_: int, __: FrameType | None) -> None:
        raise _TooSlow

    table.create_function("path_group", 1, group, deterministic=True)
    (paths,) = table.execute("select count(*) from images").fetchone()
    seconds = _SECONDS + paths * _SECONDS_PER_PATH
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        table.execute("update images set grp = path_group(path)")
    except (_TooSlow, sqlite3.OperationalError) as error:  # SQLite turns what its functions raise into its own
        if isinstance(error, sqlite3.OperationalError) and signal.getitimer(signal.ITIMER_VIRTUAL)[0]:
            raise
        raise UserError(
            f"group_pattern: {pattern!r} in params.yaml is too slow: after {seconds:.0f} seconds it was at {current}. "
            "Write it without repetitions of repetitions, such as `(.+)+`."
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
