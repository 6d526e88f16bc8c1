"""The prepared/ of an earlier run, whose shards may serve again: those that the very same recipe made, and whose bytes
are what its dataset.json says. Nothing else of it is trusted."""

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import shards, tables
from stages.common.documents import parse_json
from stages.prepare.facts import Memory
from stages.prepare.table import SPLITS

_ROWS = 4096


class File(NamedTuple):
    """A shard: its path below the folder, its SHA-256 and size in bytes, and how many pictures it has."""

    name: str
    sha256: str
    size: int
    pictures: int


class Earlier(NamedTuple):
    """The folder and its shards, whose numbers are those of the table `earlier`."""

    folder: Path
    files: list[File]

    def read(self, number: int) -> bytes | None:
        """A shard; None where it is missing, or not what dataset.json says."""
        file = self.files[number]
        try:
            with (self.folder / file.name).open("rb") as stream:
                content = stream.read(file.size + 1)
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == file.sha256 else None


def find(table: sqlite3.Connection, folder: Path, memory: Memory) -> Earlier:
    """Fill the table `earlier` with the pictures in the shards of `folder`. Without shards of the recipe whose memory
    this is, it stays empty; says why where they cannot be used."""
    files: list[File] = []
    if not folder.exists():
        return Earlier(folder, files)
    try:
        dataset = (folder / "dataset.json").read_bytes()
        manifest = memory.made(hashlib.sha256(dataset).digest())
        if manifest is None:
            return Earlier(folder, files)
        if manifest != _digest(folder / "manifest.csv"):
            raise ValueError("manifest.csv is another one")
        digests = parse_json(dataset)["sha256"]
        _read_manifest(table, folder / "manifest.csv")
        for split in SPLITS:
            _add(table, folder, split, digests, files)
    except (OSError, ValueError, KeyError) as error:
        print(f"prepare: {folder}/, of the earlier run, cannot be used: {error}", flush=True)
        table.execute("delete from earlier")
        return Earlier(folder, [])
    return Earlier(folder, files)


def _read_manifest(table: sqlite3.Connection, path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as stream:
        table.executemany(
            "insert into earlier_kept values (?, ?)",
            (
                (row["split"], bytes.fromhex(row["sha256"]))
                for row in tables.Rows(stream, ("split", "sha256", "status"))
                if row and row["status"] == "kept"
            ),
        )


def _add(table: sqlite3.Connection, folder: Path, split: str, digests: dict[str, str], files: list[File]) -> None:
    """Add the pictures of a split. ValueError where its places are not those that belong to the other files."""
    images = folder / f"{split}-images.npy"
    if _digest(images).hex() != digests[images.name]:
        raise ValueError(f"{images.name} is another one")
    places = shards.read_places(images)
    sizes, names = shards.bytes_of_shards(places), shards.names_of(split, digests)
    pictures = np.bincount(places["shard"]).tolist()
    first = len(files)
    files += [File(name, digests[name], *of_file) for name, *of_file in zip(names, sizes, pictures, strict=True)]
    rows = table.execute("select sha256 from earlier_kept where split = ? order by sha256", (split,))
    for start in range(0, len(places), _ROWS):
        block = places[start : start + _ROWS]
        table.executemany(
            "insert into earlier values (?, ?, ?, ?)",
            (
                (sha256, first + shard, offset, size)
                for (sha256,), (shard, offset, size) in zip(rows.fetchmany(_ROWS), block.tolist(), strict=True)
            ),
        )
    if rows.fetchone():
        raise ValueError(f"{images.name} has not all images of manifest.csv")


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
