"""The shards of prepared/ (stages.common.shards), where the arrays would be too large.

The pictures of a split are in the order of the SHA-256 of their pixels. A shard holds those whose SHA-256 begins with
the same bits: as few bits as keep it below 16 MiB. So shards are of 8 to 16 MiB, their pictures are a random choice of
the split's, and each depends on its own pictures alone: what is added or removed changes the shards that it is in, and
a growing split divides its shards one by one, not all at once.

Pictures come from the spool, or from the shards of the earlier prepared/, if the same recipe made that and their bytes
are what its dataset.json says; else they are decoded again.
"""

import hashlib
import heapq
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from stages.common import shards
from stages.common.errors import UserError
from stages.prepare import spool
from stages.prepare.arrays import ArrayFile
from stages.prepare.decode import Decoder, Recipe
from stages.prepare.earlier import Earlier
from stages.prepare.picture import NotAPicture, pixel_sha256
from stages.prepare.processes import processes_for, results
from stages.prepare.reader import Place
from stages.prepare.table import SPLITS

_MOST_BYTES = 2**24
# Bits of a SHA-256 that tell shards apart: enough for 10 TB.
_BITS = 20
_FETCHED = 4096


class Member(NamedTuple):
    """A picture of a shard: the SHA-256 of its pixels, index of its class, where it is in the spool (process, start,
    size), in an earlier shard (its number in the earlier files, offset, size) and in data/."""

    sha256: bytes
    label: int
    spooled: tuple[int, int, int] | None
    earlier: tuple[int, int, int] | None
    place: Place


class Shard(NamedTuple):
    """A shard to be written: its split, the path below prepared/, the groups of the spool that it needs, its pictures,
    and the earlier file with these very pictures, if there is one."""

    split: str
    name: str
    groups: range
    members: list[Member]
    same: int | None


class Written(NamedTuple):
    """What became of a shard: its SHA-256, offset and size of each picture, whether it is the earlier file, how many
    pictures were decoded again, and earlier files that are not what they should be."""

    sha256: str
    offsets: np.ndarray
    sizes: np.ndarray
    is_same: bool
    decoded: int
    damaged: list[str]


class Setting(NamedTuple):
    """What a process needs to know: how pictures are decoded, the earlier shards, and the folder to write to."""

    recipe: Recipe
    earlier: Earlier
    folder: Path


def write_shards(
    table: sqlite3.Connection, recipe: Recipe, counts: dict[str, dict[str, int]], earlier: Earlier, folder: Path
) -> dict[str, str]:
    """Write the splits' shards, places and labels into `folder`, and return the SHA-256 of each file. `counts`: kept
    images per split and class.

    The spool is removed on the way, so that it and the shards do not take twice the space.
    """
    (folder / shards.FOLDER).mkdir()
    planned = {split: _plan(table, split) for split in SPLITS}
    needed = np.zeros(spool.GROUPS, np.int64)
    for groups in (_groups(start, stop) for ranges in planned.values() for start, stop in ranges):
        needed[groups.start : groups.stop] += 1
    label_index = {label: index for index, label in enumerate(counts["train"])}
    (size,) = table.execute("select coalesce(sum(encoded), 0) from images where status = 'kept'").fetchone()
    under_way: deque[Shard] = deque()

    def work() -> Iterator[Shard]:
        of_splits = (_shards(table, split, planned[split], label_index, earlier) for split in SPLITS)
        for shard in heapq.merge(*of_splits, key=lambda shard: (shard.groups.stop, shard.groups.start)):
            under_way.append(shard)
            yield shard

    digests: dict[str, str] = {}
    of_split = dict.fromkeys(SPLITS, 0)
    same = decoded = 0
    damaged: set[str] = set()
    with ExitStack() as stack:
        arrays = {}
        for split in SPLITS:
            number = sum(counts[split].values())
            for part, dtype in (("images", shards.PLACE), ("labels", np.dtype(np.int64))):
                path = folder / f"{split}-{part}.npy"
                arrays[split, part] = stack.enter_context(closing(ArrayFile(path, dtype, (number,))))
        setting = Setting(recipe, earlier, folder)
        for written in results(_write_shard, work(), _start_process, setting, processes_for(size), "prepare"):
            split, name, groups, members, _ = under_way.popleft()
            places = np.zeros(len(members), shards.PLACE)
            places["shard"], places["offset"], places["size"] = of_split[split], written.offsets, written.sizes
            arrays[split, "images"].append(places)
            arrays[split, "labels"].append(np.array([member.label for member in members], np.int64))
            digests[name] = written.sha256
            of_split[split] += 1
            same, decoded = same + written.is_same, decoded + written.decoded
            damaged.update(written.damaged)
            needed[groups.start : groups.stop] -= 1
            for group in groups:
                if not needed[group]:
                    spool.remove(recipe.target, group)
        of_arrays = {f"{split}-{part}.npy": array.sha256.hexdigest() for (split, part), array in arrays.items()}
    for name in sorted(damaged):
        print(f"prepare: {earlier.folder}/{name} is missing, or not what dataset.json says", flush=True)
    again = f"; {decoded} pictures were decoded again for them" if decoded else ""
    print(f"prepare: {len(digests)} shards, {same} of them as in the earlier run{again}", flush=True)
    return of_arrays | {name: digests[name] for split in SPLITS for name in shards.names_of(split, digests)}


def _plan(table: sqlite3.Connection, split: str) -> list[tuple[int, int]]:
    """The ranges of first bits of SHA-256, from and to before, of the shards of a split, in order."""
    sizes = np.zeros(1 << _BITS, np.int64)
    rows = table.execute("select sha256, encoded from images where status = 'kept' and split = ?", (split,))
    while block := rows.fetchmany(_FETCHED):
        buckets = [shards.bucket_of(sha256, _BITS) for sha256, _ in block]
        # With its size and its offset in the shard.
        np.add.at(sizes, buckets, [encoded + 8 for _, encoded in block])
    before = np.concatenate([[0], np.cumsum(sizes)])
    found: list[tuple[int, int]] = []
    waiting = [(0, 1 << _BITS)]
    while waiting:
        start, stop = waiting.pop()
        size = int(before[stop] - before[start])
        if size > _MOST_BYTES and stop - start > 1:
            middle = (start + stop) // 2
            waiting += [(middle, stop), (start, middle)]
        elif size:
            found.append((start, stop))
    return found


def _groups(start: int, stop: int) -> range:
    """The groups of the spool with the pictures of a range."""
    first, last = ((bucket << (24 - _BITS)).to_bytes(3, "big") for bucket in (start, stop - 1))
    return range(spool.group_of(first), spool.group_of(last) + 1)


def _shards(
    table: sqlite3.Connection,
    split: str,
    ranges: list[tuple[int, int]],
    label_index: dict[str, int],
    earlier: Earlier,
) -> Iterator[Shard]:
    """The shards of a split, in order."""
    rows = table.execute(
        "select images.sha256, label, images.process, images.start, encoded, container, member, images.offset, "
        "images.size, earlier.file, earlier.offset, earlier.size from images left join earlier using (sha256) "
        "where status = 'kept' and split = ? order by images.sha256",
        (split,),
    )
    row = rows.fetchone()
    for start, stop in ranges:
        members = []
        while row and shards.bucket_of(row[0], _BITS) < stop:
            sha256, label, process, first, encoded, container, member, offset, size, file, at, length = row
            spooled = None if process is None else (process, first, encoded)
            taken = None if file is None else (file, at, length)
            members.append(Member(sha256, label_index[label], spooled, taken, Place(container, member, offset, size)))
            row = rows.fetchone()
        files = {member.earlier[0] if member.earlier else None for member in members}
        (same,) = files if len(files) == 1 else (None,)
        if same is not None and earlier.files[same].pictures != len(members):
            same = None
        yield Shard(split, shards.name_of(split, start), _groups(start, stop), members, same)


_setting: Setting
_decoder: Decoder


def _start_process(setting: Setting) -> None:
    global _setting, _decoder
    os.environ["OMP_NUM_THREADS"] = "1"
    _setting = setting
    _decoder = Decoder(setting.recipe)


def _write_shard(shard: Shard) -> Written:
    path = _setting.folder / shard.name
    held: dict[int, bytes | None] = {}
    if shard.same is not None:
        file = _setting.earlier.files[shard.same]
        content = held[shard.same] = _setting.earlier.read(shard.same)
        if content is not None:
            offsets, sizes = shards.parse(content)
            try:
                # DVC may have put a link to its cache there.
                path.hardlink_to((_setting.earlier.folder / file.name).resolve())
            except OSError:  # another file system, or one without such links
                path.write_bytes(content)
            return Written(file.sha256, offsets, sizes, True, 0, [])
    decoded = 0
    pictures = []
    with ExitStack() as stack:
        open_files: dict[Path, IO[bytes]] = {}
        for member in shard.members:
            picture = _spooled(member, open_files, stack) or _from_earlier(member, held)
            if picture is None:
                picture = _decode_again(member)
                decoded += 1
            pictures.append(picture)
    with path.open("w+b") as stream:
        offsets = shards.write(stream, pictures)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    sizes = np.array([len(picture) for picture in pictures])
    damaged = [_setting.earlier.files[number].name for number, content in held.items() if content is None]
    return Written(digest, offsets, sizes, False, decoded, damaged)


def _spooled(member: Member, open_files: dict[Path, IO[bytes]], stack: ExitStack) -> bytes | None:
    if member.spooled is None:
        return None
    process, start, size = member.spooled
    path = spool.path_of(_setting.recipe.target, member.sha256, process)
    if path not in open_files:
        open_files[path] = stack.enter_context(path.open("rb"))
    open_files[path].seek(start)
    return open_files[path].read(size)


def _from_earlier(member: Member, held: dict[int, bytes | None]) -> bytes | None:
    """A picture out of an earlier shard; None where it is in none, or in one that is not what it should be."""
    if member.earlier is None:
        return None
    number, offset, size = member.earlier
    if number not in held:
        held[number] = _setting.earlier.read(number)
    content = held[number]
    return None if content is None else content[offset : offset + size]


def _decode_again(member: Member) -> bytes:
    quality = _setting.recipe.quality
    assert quality is not None  # of a recipe for shards
    try:
        picture = _decoder.decode(_decoder.raw(member.place), member.place)
    except NotAPicture as error:
        reason = str(error)
    else:
        if pixel_sha256(picture.rgb) == member.sha256:
            return shards.encode(_decoder.square(picture), quality)
        reason = "other pixels than before"
    file = _setting.recipe.containers[member.place.container].file
    raise UserError(
        f"{file}: a picture in it was written to while prepare read it ({member.place.member or ''}: {reason}). "
        "Run again when nothing writes to data/."
    )
