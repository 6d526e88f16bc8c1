"""Images as files of their own: what so many cost DVC, said where they are first seen."""

import sqlite3
from pathlib import Path

MANY = 10_000
# Seconds that DVC 3.67.1 takes for each file, however small (60,000 files, 2 cores, a local remote).
_ADD, _PUSH, _PULL = 0.53e-3, 0.57e-3, 1.2e-3


def hint(root: Path, table: sqlite3.Connection) -> str:
    """One line with the command that packs; empty for fewer than MANY images that lie in the folder `root` itself."""
    (files,) = table.execute("select count(*) from images where container = 0").fetchone()
    if files < MANY:
        return ""
    minutes = files * (_ADD + _PUSH + _PULL) / 60
    return (
        f"hint: {files:,} images are files of their own. DVC takes {_ADD * 1e3} ms a file to add, {_PUSH * 1e3} to "
        f"push and {_PULL * 1e3} to pull, {minutes:.1f} min here; packed, a few seconds, with the same result: "
        f"`mv {root} ../images && python -m scripts.pack ../images {root}` (docs/own-data.md)"
    )
