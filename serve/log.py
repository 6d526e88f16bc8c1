"""The log of answers, a line of JSON for each picture, and the pictures themselves where they are kept.

A thread of its own writes them: a disk that is full, slow or gone delays and loses no answer. What could not be written
is counted, and `problems` says why until writing succeeds again.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stages.common import escape
from stages.common.errors import UserError

# Of what waits to be written: entries, and bytes of pictures.
_MOST_ENTRIES, _MOST_BYTES = 10_000, 64 * 2**20
_FLUSH_SECONDS = 10.0
LINES, PICTURES = "lines", "pictures"


class Entry(NamedTuple):
    """Lines for the log, and pictures to be kept, by the name of their file."""

    lines: list[Mapping[str, Any]]
    pictures: Mapping[str, bytes]


class AnswerLog:
    """Writes to `file`, or to standard output, and keeps pictures in `folder`."""

    def __init__(self, file: Path | None, folder: Path | None) -> None:
        """UserError where the file, or a file in the folder, cannot be written: before the first answer is lost."""
        self._file = file
        self._folder = folder
        self._descriptor = -1
        self._queue: queue.Queue[Entry | None] = queue.Queue(_MOST_ENTRIES)
        self._bytes = 0
        self._lock = threading.Lock()
        # How many were not written, and why the last one was not; empty since one was.
        self.lost = {LINES: 0, PICTURES: 0}
        self.problems = {LINES: "", PICTURES: ""}
        try:
            self._open()
        except OSError as error:
            name = escape.terminal(str(file))
            raise UserError(f"--log {name}: {error.strerror}. Name a file that can be written.") from None
        if folder is not None:
            probe = folder / f".writable-{os.getpid()}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe.touch(exist_ok=False)
                probe.unlink()
            except OSError as error:
                name = escape.terminal(str(folder))
                raise UserError(f"--keep {name}: {error.strerror}. Name a folder that can be written.") from None
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def keeps(self) -> bool:
        """Whether pictures are kept."""
        return self._folder is not None

    def put(self, entry: Entry) -> None:
        """Have an entry written, soon. Never waits."""
        size = sum(map(len, entry.pictures.values()))
        with self._lock:
            has_room = self._bytes + size <= _MOST_BYTES
            if has_room:
                self._bytes += size
        if not has_room:
            self._lose(PICTURES, len(entry.pictures), "they come faster than they can be written")
            entry = entry._replace(pictures={})
            size = 0
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            with self._lock:
                self._bytes -= size
            self._lose(LINES, len(entry.lines), "they come faster than they can be written")
            self._lose(PICTURES, len(entry.pictures), "they come faster than they can be written")

    def close(self) -> None:
        """Write what is there; not for ever, where the disk hangs."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=_FLUSH_SECONDS)
        self._thread.join(_FLUSH_SECONDS)
        if self._thread.is_alive():
            print("serve: log: not all was written: the disk does not answer", file=sys.stderr)

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            entries = [entry]
            ended = False
            with suppress(queue.Empty):
                while len(entries) < 256:
                    more = self._queue.get_nowait()
                    if more is None:
                        ended = True
                        break
                    entries.append(more)
            self._write([line for entry in entries for line in entry.lines])
            for entry in entries:
                self._keep(entry.pictures)
            if ended:
                return

    def _write(self, lines: list[Mapping[str, Any]]) -> None:
        content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
        try:
            if not self._is_ours():
                self._open()
            self._append(content)
        except OSError as error:
            self._lose(LINES, len(lines), str(error.strerror))
        else:
            self.problems[LINES] = ""

    def _append(self, content: bytes) -> None:
        """All of it or nothing, as far as the file can be cut: half a line would break the next one."""
        is_file = self._file is not None
        before = os.fstat(self._descriptor).st_size
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            if is_file:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, before)
            raise

    def _is_ours(self) -> bool:
        """Whether the open file is still the one of that name; programs that rotate logs rename it."""
        if self._file is None:
            return True
        try:
            there, ours = self._file.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _open(self) -> None:
        if self._file is None:
            self._descriptor = sys.stdout.fileno()
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        # A named pipe that nobody reads would be waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._file, flags, 0o666)
        os.set_blocking(self._descriptor, True)

    def _keep(self, pictures: Mapping[str, bytes]) -> None:
        for name, data in pictures.items():
            assert self._folder
            path = self._folder / name
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    with os.fdopen(descriptor, "wb") as stream:
                        stream.write(data)
                except OSError:
                    path.unlink(missing_ok=True)
                    raise
            except OSError as error:
                self._lose(PICTURES, 1, str(error.strerror))
            else:
                self.problems[PICTURES] = ""
        with self._lock:
            self._bytes -= sum(map(len, pictures.values()))

    def _lose(self, what: str, count: int, reason: str) -> None:
        if not count:
            return
        is_new = not self.problems[what]
        # First, for whoever sees that something is lost and asks why.
        self.problems[what] = reason
        with self._lock:
            self.lost[what] += count
        if is_new:
            print(f"serve: log: {what} are not written: {reason}; the service goes on", file=sys.stderr)
