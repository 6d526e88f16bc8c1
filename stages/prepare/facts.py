"""What prepare finds out about a picture, and its memory of that: what the same raw bytes gave before, in files that
are this machine's own and may be deleted at any time.

The memory is $DVC_ROOT/.dvc/tmp/prepare/facts-<recipe>.sqlite, a file for each `recipe`, all that decides what a
picture becomes. It also keeps which prepared/ the recipe made, so that only shards of the very same recipe are used
again. Every row carries a checksum, and a file that SQLite cannot read is made anew: at worst, a picture is decoded
again. There is none where prepare writes arrays, for which it needs the pixels of all pictures.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from stages.common.dependencies import ROOT

# Of as many recipes, such as those of branches, the memory is kept.
_KEPT = 3
# A memory that has more rows for each image is one of data that are gone.
_ROWS_EACH = 3
_ROWS_ALWAYS = 100_000
_NAME = re.compile(r"facts-[0-9a-f]{16}\.sqlite")
_PACKAGES = ("numpy", "pillow", "simplejpeg", "torch")
_SECONDS = 30
_CHECK = 8
# SHA-256 of the pixels, width, height, whether it is grey, bytes when encoded, sums and squares, length of descriptor.
_FIXED = struct.Struct("<32sII?I6QB")
_SCHEMA = """
create table if not exists facts (key blob primary key, value blob not null) without rowid;
create table if not exists made (key blob primary key, value blob not null) without rowid;
"""


class Facts(NamedTuple):
    """Of a picture: the SHA-256 of its pixels, width and height in pixels, what was done to it, its descriptor
    (near_duplicates.py); and of the square that it becomes: whether it is grey, the sums of its values and of their
    squares, 0 to 255, for each channel, and the bytes that it takes in a shard, 0 where it is in none."""

    sha256: bytes
    width: int
    height: int
    note: str
    descriptor: bytes | None
    is_grey: bool
    sums: tuple[int, int, int]
    squares: tuple[int, int, int]
    size: int


def recipe_of(**params: object) -> str:
    """The name of all that decides what a picture becomes: these params, the modules of stages/prepare and
    stages/common, and the packages that read and resize."""
    modules = sorted(path for room in ("prepare", "common") for path in (ROOT / "stages" / room).glob("*.py"))
    code = {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in modules}
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return hashlib.sha256(json.dumps([params, code, versions], sort_keys=True).encode()).hexdigest()[:16]


def file_of(recipe: str) -> Path:
    """The file of a recipe's memory, beside those of other ones."""
    return Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/prepare", f"facts-{recipe}.sqlite")


class Memory:
    """The memory of a recipe, to look up in. Without a file, or where that is damaged, it knows nothing."""

    def __init__(self, file: Path) -> None:
        self._database: sqlite3.Connection | None = None
        with suppress(sqlite3.Error):
            # To write, too: what a killed process had begun is taken back first.
            self._database = _open(file, "rw")

    def facts(self, key: bytes) -> Facts | None:
        """What a picture gave whose raw bytes have this key."""
        value = self._get("facts", key)
        return None if value is None else _unpack(value)

    def made(self, dataset: bytes) -> bytes | None:
        """The SHA-256 of the manifest that this recipe made beside a dataset.json with the given one; None where it did
        not make that."""
        return self._get("made", dataset)

    def _get(self, table: str, key: bytes) -> bytes | None:
        if self._database is None:
            return None
        with suppress(sqlite3.Error):
            row = self._database.execute(f"select value from {table} where key = ?", (key,)).fetchone()
            if row and isinstance(row[0], bytes) and row[0][:_CHECK] == _check(key, row[0][_CHECK:]):
                return row[0][_CHECK:]
        return None


def remember_decoded(file: Path, table: sqlite3.Connection) -> None:
    """Add what was decoded in this run. Says so where the memory cannot be written, which nothing depends on."""
    (images, known) = table.execute("select count(key), coalesce(sum(known), 0) from images").fetchone()
    if known:
        print(f"prepare: {known} of {images} pictures were known, and not decoded", flush=True)

    def rows(is_empty: bool) -> Iterator[tuple[bytes, bytes]]:
        for key, sha256, width, height, note, descriptor, grey, r, g, b, rr, gg, bb, size in table.execute(
            "select key, sha256, width, height, note, descriptor, grey, sum0, sum1, sum2, square0, square1, square2, "
            f"encoded from images where key is not null {'' if is_empty else 'and not known'} order by key"
        ):
            facts = Facts(sha256, width, height, note, descriptor, bool(grey), (r, g, b), (rr, gg, bb), size)
            yield key, _pack(facts)

    _write(file, "facts", rows, _ROWS_EACH * images + _ROWS_ALWAYS)


def remember_made(file: Path, folder: Path) -> None:
    """Add that the recipe made the dataset.json and manifest.csv in `folder`; else as `remember_decoded`."""
    dataset, manifest = (
        hashlib.sha256((folder / name).read_bytes()).digest() for name in ("dataset.json", "manifest.csv")
    )
    _write(file, "made", lambda _: iter([(dataset, manifest)]), _ROWS_ALWAYS)


def _write(file: Path, table: str, rows: Callable[[bool], Iterator[tuple[bytes, bytes]]], most: int) -> None:
    """Add rows to a table that has at most `most` before: `rows(False)`, or `rows(True)` to one that is empty."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        others = [path for path in file.parent.iterdir() if _NAME.fullmatch(path.name) and path != file]
        for path in sorted(others, key=lambda path: path.stat().st_mtime)[: 1 - _KEPT]:
            path.unlink()
        try:
            _insert(file, table, rows, most)
        except sqlite3.OperationalError:
            raise  # such as a full disk, or one without locks
        except sqlite3.DatabaseError:
            file.unlink()  # damaged
            _insert(file, table, rows, most)
    except (sqlite3.Error, OSError) as error:
        print(f"prepare: {file} cannot be written ({error}), so the next run decodes more", file=sys.stderr)


def _insert(file: Path, table: str, rows: Callable[[bool], Iterator[tuple[bytes, bytes]]], most: int) -> None:
    with closing(_open(file, "rwc")) as database:
        database.executescript(_SCHEMA)
        database.execute("begin immediate")
        (known,) = database.execute(f"select count(*) from {table}").fetchone()
        if known > most:
            database.execute(f"delete from {table}")
        database.executemany(
            f"insert or replace into {table} values (?, ?)",
            ((key, _check(key, value) + value) for key, value in rows(known == 0 or known > most)),
        )
        database.execute("commit")


def _open(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", timeout=_SECONDS, isolation_level=None, uri=True)


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=_CHECK).digest()


def _pack(facts: Facts) -> bytes:
    descriptor = facts.descriptor or b""
    fixed = (facts.sha256, facts.width, facts.height, facts.is_grey, facts.size, *facts.sums, *facts.squares)
    return _FIXED.pack(*fixed, len(descriptor)) + descriptor + facts.note.encode()


def _unpack(value: bytes) -> Facts:
    sha256, width, height, is_grey, size, r, g, b, rr, gg, bb, length = _FIXED.unpack_from(value)
    end = _FIXED.size + length
    descriptor, note = value[_FIXED.size : end] or None, value[end:].decode()
    return Facts(sha256, width, height, note, descriptor, is_grey, (r, g, b), (rr, gg, bb), size)
