"""prepared/manifest.csv in columns, as millions of rows can be held: 50 bytes for each."""

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.common.names import shortened

# Bytes of a SHA-256.
_SIZE = 32
Row = Sequence[str]


class Kept(NamedTuple):
    """The images of one split in the order of the manifest: the SHA-256 of their pixels, and the places of their
    classes in `classes`."""

    digests: np.ndarray
    labels: np.ndarray
    classes: list[str]

    @property
    def beginnings(self) -> np.ndarray:
        """The first 64 bits of each digest."""
        return _beginnings(self.digests)


@dataclass(frozen=True)
class Manifest:
    """The rows that name a content, in the order of the file: its SHA-256, 32 bytes; the places of class and split in
    `classes` and `split_names`; whether the image is used; and Python's hash of the path, which tells paths apart
    within a process. `unreadable`: how many rows name none. `rows` reads the file anew, for the texts of a few."""

    rows: Callable[[], AbstractContextManager[Iterable[Row]]]
    digests: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    kept: np.ndarray
    path_hashes: np.ndarray
    classes: list[str]
    split_names: list[str]
    unreadable: int

    @classmethod
    def read(cls, rows: Callable[[], AbstractContextManager[Iterable[Row]]]) -> "Manifest":
        """`rows`: opens the file, each row of which has path, class, split, SHA-256 and status. ValueError for what is
        no SHA-256."""
        digests, labels, splits, kept, paths = bytearray(), array("i"), array("i"), array("b"), array("q")
        classes: dict[str, int] = {}
        split_names: dict[str, int] = {}
        unreadable = 0
        with rows() as opened:
            for path, label, split, digest, status in opened:
                if not digest:
                    unreadable += 1
                    continue
                digests += binary(digest)
                labels.append(classes.setdefault(label, len(classes)))
                splits.append(split_names.setdefault(split, len(split_names)))
                kept.append(status == "kept")
                paths.append(hash(path))
        return cls(
            rows,
            as_digests(digests),
            np.array(labels, np.int32),
            np.array(splits, np.int32),
            np.array(kept, np.bool_),
            np.array(paths, np.int64),
            [*classes],
            [*split_names],
            unreadable,
        )

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Manifest":
        """Of rows that are in memory. ValueError for what is no SHA-256."""
        return cls.read(lambda: nullcontext(rows))

    def __len__(self) -> int:
        return len(self.digests)

    def split(self, name: str) -> Kept:
        """The images of a split."""
        chosen = self.kept & (self.splits == (self.split_names.index(name) if name in self.split_names else -1))
        return Kept(self.digests[chosen], self.labels[chosen], self.classes)

    def paths(self, wanted: np.ndarray) -> dict[int, str]:
        """The paths of the rows that the mask `wanted` chooses, by their places. Reads the file anew."""
        left = int(wanted.sum())
        found: dict[int, str] = {}
        if not left:
            return found
        chosen = wanted.tolist()
        with self.rows() as opened:
            for place, row in enumerate(row for row in opened if row[3]):
                if chosen[place]:
                    found[place] = row[0]
                    if len(found) == left:
                        break
        return found

    def paths_of(self, beginnings: Collection[str]) -> dict[str, str]:
        """The paths of used images by the first 16 digits of their SHA-256; of `beginnings`, those that it has."""
        asked = np.array([int(text, 16) for text in beginnings], np.uint64)
        known = _beginnings(self.digests)
        found = self.paths(self.kept & np.isin(known, asked))
        return {f"{known[place]:016x}": path for place, path in found.items()}


def binary(digest: str) -> bytes:
    """A SHA-256 as 32 bytes. ValueError where it is none."""
    try:
        found = bytes.fromhex(digest)
    except ValueError:
        found = b""
    if len(found) != _SIZE or len(digest) != 2 * _SIZE:
        raise ValueError(f"{shortened(digest)!r}: expected 64 digits of a SHA-256")
    return found


def as_digests(content: bytes | bytearray) -> np.ndarray:
    """SHA-256s that stand one after the other, as an array of 32 bytes each, which sorts as their digits do."""
    return np.frombuffer(bytes(content), f"S{_SIZE}") if content else np.empty(0, f"S{_SIZE}")


def digits(digests: np.ndarray) -> Iterator[str]:
    """The 64 digits of each; NumPy's own way to get at one cuts zeros off."""
    text = digests.tobytes().hex()
    yield from (text[start : start + 2 * _SIZE] for start in range(0, len(text), 2 * _SIZE))


def _beginnings(digests: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.ascontiguousarray(digests).view(">u8").reshape(-1, _SIZE // 8)[:, 0].astype(np.uint64)
    return found
