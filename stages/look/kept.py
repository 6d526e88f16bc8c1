"""What was found out about images, by their content: so that only new ones are looked at again.

A file of SQLite for each network, and one for facts of pictures: what is in it was computed by the same code, in the
same way. A process that is killed loses the batch that it is at.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from stages.common.errors import UserError

# Files of one kind: of the network in use, and of the one before.
_MOST_FILES = 2
# Values of a few kilobytes: of SQLite's own 4 KiB they would leave half empty.
_PAGE_BYTES = 32768
# Of an extended result code, which says more, the primary one.
_PRIMARY = 0xFF
_SCHEMA = "create table if not exists kept (part text, image blob, value blob not null, primary key (part, image))"


class Kept:
    """Values, bytes, of images, each known by a digest. `part`: of what the images are a part: none of them is dropped
    for those of another."""

    def __init__(self, table: sqlite3.Connection, part: str) -> None:
        self._table = table
        self._part = part

    def known(self) -> set[bytes]:
        return {image for (image,) in self._table.execute("select image from kept where part = ?", (self._part,))}

    def add(self, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep values, for good."""
        self._table.executemany(
            "insert or replace into kept values (?, ?, ?)", ((self._part, image, value) for image, value in values)
        )
        self._table.commit()

    def get(self, image: bytes) -> bytes:
        query = "select value from kept where part = ? and image = ?"
        (value,) = self._table.execute(query, (self._part, image)).fetchone()
        assert isinstance(value, bytes)
        return value

    def drop_others(self, images: Iterable[bytes]) -> None:
        """Forget what is not of these images."""
        self._table.execute("create temporary table present (image blob primary key)")
        self._table.executemany("insert or ignore into present values (?)", ((image,) for image in images))
        gone = "delete from kept where part = ? and image not in (select image from present)"
        self._table.execute(gone, (self._part,))
        self._table.execute("drop table present")
        self._table.commit()


@contextmanager
def opened(folder: Path, kind: str, form: str) -> Iterator[sqlite3.Connection]:
    """The file of one kind and form, for `Kept`. Older ones of its kind are removed. UserError where it is damaged."""
    digest = hashlib.sha256(form.encode()).hexdigest()[:16]
    path = folder / f"{kind}-{digest}.sqlite"
    folder.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        with closing(sqlite3.connect(path)) as table:
            # What a crash of the machine damages is made again.
            table.executescript(
                f"pragma page_size = {_PAGE_BYTES}; pragma auto_vacuum = full; pragma synchronous = off; "
                f"pragma temp_store = memory; {_SCHEMA}"
            )
            yield table
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise UserError(f"{path}: damaged ({error}). Remove it, and run again.") from None
        raise
    files = sorted(folder.glob(f"{kind}-*.sqlite"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files[_MOST_FILES:]:
        file.unlink()
