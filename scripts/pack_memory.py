"""What packing remembers: the SHA-256 of each file that it has read, and what each shard holds.

A file of SQLite, in .dvc/tmp/pack/, safe to delete: what it does not have is read again. What is to be packed and what
the shards hold is compared there too, in tables that last as long as the run, so that memory does not grow with them.
"""

import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from scripts.pack_tar import Listed, Member, Read
from stages.common.errors import UserError
from stages.common.locks import try_lock

# Another form of the tables has another name.
_FILE = "memory-1.sqlite"
# Of an extended result code, which says more, the primary one.
_PRIMARY = 0xFF
_SCHEMA = """
create table if not exists files (
    source text, name text, status text not null, sha256 blob not null, primary key (source, name)
) without rowid;
create table if not exists shards (
    name text primary key,
    status text not null,     -- as its bytes were last seen to be those of its name
    members text not null,    -- JSON: [[name, size, SHA-256], …]
    sha256 blob not null      -- of `members`: a file that was forgotten there would be read though it is removed
) without rowid;
create temporary table present (
    name text primary key, status text not null, size integer not null, sha256 blob
) without rowid;
create temporary table held (
    name text, shard text, size integer not null, sha256 blob not null, primary key (name, shard)
) without rowid;
create temporary table learned (name text primary key, sha256 blob not null, settled text) without rowid;
create temporary table living (name text primary key, shard text not null) without rowid;
"""
# Of a tar file: a header and whole blocks.
_COST = "(size + 511) / 512 * 512 + 512"
_DEAD = "from held left join living using (name, shard) where living.name is null"


class DamagedError(Exception):
    """The memory is damaged; the text says which file and how. What was asked of it may be asked of a new one."""


@contextmanager
def opened(folder: Path | None) -> Iterator["Memory"]:
    """The memory in `folder`, for this process alone; an empty one that is lost at the end where `folder` is None or
    cannot be written to, which is printed.

    UserError where another pack is at work with it; DamagedError, also later, where it is damaged.
    """
    with ExitStack() as stack:
        file = None
        if folder:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((folder / "lock").open("w"))
                is_alone = try_lock(lock)
                (folder / _FILE).open("ab").close()
            except OSError as error:
                print(f"pack: {error.filename or folder}: {error.strerror}; so nothing is remembered for the next time")
            else:
                if not is_alone:
                    raise UserError(f"{folder}: in use by another pack in this project. Wait for its end.")
                file = folder / _FILE
        try:
            table = stack.enter_context(closing(sqlite3.connect(file or "")))
            table.executescript(f"pragma cache_size = -65536; {_SCHEMA}")
            yield Memory(table, is_alone=file is not None)
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
            if code == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file or "")) from None
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise DamagedError(f"{file}: damaged ({error})") from None
            raise


def forget(folder: Path) -> None:
    """Remove the memory, which is damaged."""
    for name in (_FILE, f"{_FILE}-journal"):
        (folder / name).unlink(missing_ok=True)


class Memory:
    """What is remembered; and the two sides of one run: the files that are `present`, and those that shards hold.

    `is_alone`: no other pack of this project is at work.
    """

    def __init__(self, table: sqlite3.Connection, *, is_alone: bool) -> None:
        self._table = table
        self.is_alone = is_alone

    # --- the files that are present

    def list_files(self, source: str, files: Iterable[Listed]) -> None:
        """Take down the files that there are in the folder `source`. Forgets those that are gone."""
        self._table.executemany("insert into present (name, status, size) values (?, ?, ?)", files)
        self._table.execute(
            "update present set sha256 = (select sha256 from files where files.source = ? and "
            "files.name = present.name and files.status = present.status)",
            (source,),
        )
        self._table.execute("delete from files where source = ? and name not in (select name from present)", (source,))

    def number_present(self) -> int:
        return self._number("select count(*) from present")

    def unread(self) -> tuple[int, Iterator[Listed]]:
        """The bytes of the files that may be what a shard holds, by name and size, and whose content is not known; and
        these files, by name."""
        return self._files(
            "sha256 is null and exists (select 1 from held where held.name = present.name and held.size = present.size)"
        )

    def waiting(self) -> tuple[int, Iterator[Listed]]:
        """The bytes of the files that live in no shard, and these files, by name."""
        return self._files("name not in (select name from living)")

    def _files(self, condition: str) -> tuple[int, Iterator[Listed]]:
        size = self._number(f"select total(size) from present where {condition}")
        rows = self._table.execute(f"select name, status, size from present where {condition} order by name")
        return size, (Listed(*row) for row in rows)

    def learn(self, read: Read) -> None:
        """Take down what was read of files, also while others are still asked for."""
        settled = {file.name: file.status for file in read.settled}
        self._table.executemany(
            "insert into learned values (?, ?, ?)",
            ((member.name, member.sha256, settled.get(member.name)) for member in read.members),
        )

    def remember_learned(self, source: str) -> None:
        """Know what was learned, and keep what is settled for the next time."""
        self._table.execute("update present set sha256 = learned.sha256 from learned where learned.name = present.name")
        self._table.execute(
            "insert or replace into files select ?, name, settled, sha256 from learned where settled is not null",
            (source,),
        )
        self._table.execute("delete from learned")
        self._table.commit()

    # --- the shards

    def is_unchanged(self, shard: str, status: str) -> bool:
        """Whether the bytes of a shard were seen to be those of its name when it had this status."""
        return self._number("select count(*) from shards where name = ? and status = ?", shard, status) > 0

    def hold(self, shard: str) -> bool:
        """Take down what a shard holds that is there; whether that is known."""
        row = self._table.execute("select members, sha256 from shards where name = ?", (shard,)).fetchone()
        if row is None or hashlib.sha256(row[0].encode()).digest() != row[1]:
            return False
        rows = ((name, shard, size, bytes.fromhex(digest)) for name, size, digest in json.loads(row[0]))
        self._table.executemany("insert into held values (?, ?, ?, ?)", rows)
        return True

    def remember_members(self, shard: str, members: Iterable[Member]) -> None:
        """Keep for the next time what a shard holds."""
        text = json.dumps([(name, size, digest.hex()) for name, size, digest in members], ensure_ascii=False)
        row = (shard, text, hashlib.sha256(text.encode()).digest())
        self._table.execute("insert or replace into shards values (?, '', ?, ?)", row)

    def remember_shards(self, statuses: dict[str, str], forgotten: Iterable[str]) -> None:
        """Keep for the next time how shards were, of which the bytes are those of their names, and forget others."""
        self._table.executemany(
            "update shards set status = ? where name = ?", ((status, name) for name, status in statuses.items())
        )
        self._table.executemany("delete from shards where name = ?", ((name,) for name in forgotten))
        self._table.commit()

    # --- one against the other

    def compare(self) -> list[tuple[str, int, int]]:
        """Find which files live in which shard, each in one. The name of each shard, the bytes that it has for files,
        and those for living ones."""
        self._table.execute(
            "insert into living select name, min(shard) from held join present using (name) "
            "where held.sha256 = present.sha256 group by name"
        )
        return self._table.execute(
            f"select shard, sum({_COST}), sum(iif(living.name is null, 0, {_COST})) "
            "from held left join living using (name, shard) group by shard order by shard"
        ).fetchall()

    def drop(self, shards: Iterable[str]) -> None:
        """Of these shards nothing lives any more."""
        self._table.execute("create temporary table dropped (shard text primary key)")
        self._table.executemany("insert into dropped values (?)", ((shard,) for shard in shards))
        for table in ("living", "held"):
            self._table.execute(f"delete from {table} where shard in (select shard from dropped)")

    def dead(self) -> Iterator[tuple[str, str]]:
        """What shards hold that does not live there: shard and name, in their order."""
        return self._table.execute(f"select shard, name {_DEAD} order by shard, name")

    def number_dead(self) -> int:
        return self._number(f"select count(*) {_DEAD}")

    def number_living(self, removed: Iterable[tuple[str, str]]) -> int:
        """How many of these, shard and name, live."""
        query = "select count(*) from living where shard = ? and name = ?"
        return sum(self._number(query, *row) for row in removed)

    def _number(self, query: str, *values: str) -> int:
        ((number,),) = self._table.execute(query, values).fetchall()
        return int(number)
