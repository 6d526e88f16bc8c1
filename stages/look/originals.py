"""Facts of raw pictures, read in one pass over data/ on all cores; those that are known are not read again."""

import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from stages.common.errors import UserError, listed
from stages.look import facts
from stages.look.facts import Facts
from stages.look.kept import Kept
from stages.prepare import layouts
from stages.prepare.picture import Canvas, NotAPicture, decode, pixel_sha256
from stages.prepare.processes import images_of_a_chunk, processes_for, results
from stages.prepare.reader import Container, Place, Reader
from stages.prepare.table import open_table

DATA = Path("data")


class Original(NamedTuple):
    """A raw picture: its path below data/, and the SHA-256 of its pixels, hexadecimal."""

    path: str
    sha256: str

    @property
    def digest(self) -> bytes:
        """Of both: copies of a picture may have EXIF of their own."""
        return hashlib.sha256(f"{self.sha256} {self.path}".encode()).digest()


class Pictures:
    """Facts of raw pictures, kept in a file of kept.py."""

    def __init__(self, table: sqlite3.Connection) -> None:
        self._kept = Kept(table, "data")

    def complete(self, originals: Sequence[Original], work: Path) -> int:
        """Read those whose facts are not kept yet; how many. UserError where one is not there any more, or is another
        picture. `work`: a folder into which archives are unpacked that cannot be read at random."""
        known = self._kept.known()
        new = [original for original in originals if original.digest not in known]
        for found in _read(new, work) if new else ():
            self._kept.add((original.digest, json.dumps(facts).encode()) for original, facts in found)
        return len(new)

    def facts_of(self, original: Original) -> Facts:
        return Facts(*json.loads(self._kept.get(original.digest)))

    def drop_others(self, originals: Sequence[Original]) -> None:
        """Forget what is not of these."""
        self._kept.drop_others(original.digest for original in originals)


def _read(originals: Sequence[Original], work: Path) -> Iterator[list[tuple[Original, Facts]]]:
    with closing(open_table(work / "images.sqlite")) as table:
        containers = layouts.scan(DATA, "", table, work).containers
        places = _places(originals, table)
    size = sum(place.size for place in places)
    length = images_of_a_chunk(len(places), size)
    pairs = list(zip(originals, places, strict=True))
    chunks = (pairs[first : first + length] for first in range(0, len(pairs), length))
    with tqdm(total=len(pairs), unit="image", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        for found, problems in results(_read_chunk, chunks, _start, containers, processes_for(size), "look"):
            if problems:
                raise _stale(problems)
            yield found
            bar.update(len(found))


def _places(originals: Sequence[Original], table: sqlite3.Connection) -> list[Place]:
    places = []
    absent = []
    for original in originals:
        query = "select container, member, offset, size from images where path = ?"
        row = table.execute(query, (original.path,)).fetchone()
        if row:
            places.append(Place(*row))
        else:
            absent.append(original.path)
    if absent:
        raise _stale([f"{path}: is not there" for path in absent])
    return places


def _stale(problems: list[str]) -> UserError:
    return UserError(
        f"{DATA}/: other pictures than prepared/ was made of; `make repro` makes it of these. Such as:\n"
        f"{listed(sorted(problems))}"
    )


_reader: Reader
_canvas: Canvas


def _start(containers: list[Container]) -> None:
    global _reader, _canvas
    _reader = Reader(containers)
    _canvas = Canvas()


def _read_chunk(chunk: list[tuple[Original, Place]]) -> tuple[list[tuple[Original, Facts]], list[str]]:
    """Facts, and what is wrong with pictures that have none."""
    found = []
    problems = []
    for original, place in chunk:
        data = b""
        try:
            rgb = _reader.pixels(place)
            if rgb is None:
                data = _reader.picture(place)
                rgb = decode(data, _canvas).rgb
        except NotAPicture as error:
            problems.append(f"{original.path}: {error}")
            continue
        if pixel_sha256(rgb).hex() != original.sha256:
            problems.append(f"{original.path}: has other pixels")
            continue
        found.append((original, facts.measure(rgb, data)))
    return found, problems
