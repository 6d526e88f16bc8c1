"""The table of raw images: on disk while prepare runs, so memory does not grow with their number."""

import sqlite3
from pathlib import Path

SPLITS = ("train", "val", "test")

_SCHEMA = """
create table found (path text not null, container integer not null, member text, offset integer, size integer);
create table images (
    id integer primary key,     -- from 0, in the order of paths
    path text not null,         -- relative to data/, with forward slashes
    label text,
    split text,                 -- the official one, where the layout has it; later the one assigned
    grp text,                   -- what must not be divided between splits
    place real,                 -- on the line from 0 to 1, where the split is drawn; of the group, or of the picture
    container integer not null, member text, offset integer,
    size integer,               -- in bytes; of files in folders, about
    width integer, height integer, sha256 blob, -- in pixels, and of them, once decoded
    key blob,                   -- of the raw bytes, for the memory of facts (facts.py)
    known integer,              -- whether the memory had it
    sum0 integer, sum1 integer, sum2 integer,          -- of the values of its square, for each channel,
    square0 integer, square1 integer, square2 integer, -- and of their squares
    grey integer,
    encoded integer,            -- the bytes of its square in a shard
    process integer, start integer, -- where that is in the spool (spool.py)
    descriptor blob,            -- what near copies have in common (near_duplicates.py)
    near integer,               -- the id of a near copy in a split that takes precedence
    given text,                 -- the class by the data, where a correction has given it another
    correction text,            -- and why, or why the image was left out by hand
    status text not null default '',
    note text not null default ''
);
create table corrections (sha256 blob primary key, path text, decision text, label text, reason text) without rowid;
create table earlier_kept (split text not null, sha256 blob not null, primary key (split, sha256)) without rowid;
create table earlier (sha256 blob primary key, file integer, offset integer, size integer) without rowid;
"""


def open_table(path: Path) -> sqlite3.Connection:
    """An empty database for this run alone, in one transaction: nothing in it has to survive a crash."""
    table = sqlite3.connect(path, isolation_level=None)
    folder = str(path.parent).replace("'", "''")
    table.executescript(
        "pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -16384; "
        f"pragma temp_store_directory = '{folder}';" + _SCHEMA
    )
    table.create_function("top", 1, lambda path: path.partition("/")[0] if "/" in path else "", deterministic=True)
    table.create_function("below", 1, lambda path: path.partition("/")[2], deterministic=True)
    table.create_function("slashes", 1, lambda path: path.count("/"), deterministic=True)
    table.execute("begin")
    return table


def insert_images(table: sqlite3.Connection, query: str, **values: object) -> None:
    """Fill the table `images` from a query of its columns path to size, in the order of paths."""
    table.execute(
        "insert into images (id, path, label, split, grp, container, member, offset, size) "
        f"select row_number() over (order by path) - 1, * from ({query})",
        values,
    )
