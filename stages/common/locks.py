"""Locks of files, which the system frees when a process ends, however it ends."""

import fcntl
import tempfile
from pathlib import Path
from typing import IO, Any


def try_lock(file: int | IO[Any]) -> bool:
    """Lock a file for this process alone, until it is closed or the process ends; whether no other has it.

    Raises OSError where the file system has no locks: `why_no_locks` says so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def why_no_locks(folder: Path) -> str:
    """What is wrong with a folder whose file system has no locks, as some network and FUSE file systems; empty where it
    has them. Raises OSError where no file can be written there."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            try_lock(file)
        except OSError as error:
            return f"{folder}: its file system has no locks ({error.strerror}), as some network file systems"
    return ""
