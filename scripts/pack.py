"""A folder of images → a few tar files, which DVC adds, pushes and pulls many times faster than many small files.

A shard's bytes depend only on the names and the content of its images, and its name is their hash. Packing a folder
again leaves every shard alone whose images are nearly all still there, and puts new ones into new shards, so `dvc push`
sends little more than what was added. What was removed or changed stays in its shard, and removed.csv beside the shards
says that it counts as gone, until a fifth of a shard is: then its other images go into a new one.

Files that are as they were, by their times, size and inode, are not read again (scripts/pack_memory.py).
"""

import argparse
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from scripts import pack_tar
from scripts.pack_memory import DamagedError, Memory, forget, opened
from scripts.pack_tar import Listed, Read, Setting, Written, status_of
from stages.common import tables
from stages.common.errors import UserError, listed, run_main
from stages.common.files import replacing
from stages.prepare import removed
from stages.prepare.labels import LABELS
from stages.prepare.listing import require_names, walk
from stages.prepare.processes import processes_for, results
from stages.prepare.reader import NotAFile, open_regular
from stages.prepare.removed import REMOVED, SHARD

# Large enough that a data set has few shards, small enough that several processes have work.
SHARD_BYTES = 64 * 10**6
MEMORY = Path(".dvc/tmp/pack")
# Of a shard's bytes, those of removed files that stay there: writing it anew sends four bytes for each that goes.
_MOST_DEAD = 0.2
_FILES_OF_A_CHUNK = 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.pack",
        description="Pack a folder of images into a few tar files that prepare reads. Run again after a change, it "
        "reads the files that changed, leaves the shards alone, puts what is new into new ones, and lists in "
        f"{REMOVED}, which prepare heeds, what was removed from the folder and is still in a shard.",
    )
    parser.add_argument("source", type=Path, help="folder of images, in any layout of folders that prepare knows")
    parser.add_argument("dest", type=Path, help="folder of shards; those whose images are unchanged stay as they are")
    parser.add_argument(
        "--shard-mb", type=int, default=SHARD_BYTES // 10**6, metavar="MB", help="size of a shard (default: 64)"
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="write all shards anew that hold a removed file, so that none of its bytes stay, and join those that are "
        "less than half full (without: a shard of which removed files take more than a fifth)",
    )
    arguments = parser.parse_args()
    if arguments.shard_mb < 1:
        raise UserError(f"--shard-mb: expected 1 or more; got {arguments.shard_mb}.")
    # Outside a project, nothing of which DVC tracks is packed again.
    memory = MEMORY if MEMORY.parents[1].is_dir() else None
    pack(arguments.source, arguments.dest, arguments.shard_mb * 10**6, compact=arguments.compact, memory=memory)


def pack(
    source: Path, dest: Path, shard_bytes: int = SHARD_BYTES, *, compact: bool = False, memory: Path | None = None
) -> None:
    """Make `dest` hold exactly the files of `source`, without clutter, in shards of about `shard_bytes`.

    What was removed or changed since `dest` was packed may stay in its shard, and is then listed beside the shards as
    gone; not with `compact`. `memory`: the folder for what is remembered for the next time; it never changes what is
    written. Raises UserError where `source` holds nothing to pack, and where `dest` holds anything that is not a shard
    of this function, whose name is its hash, or another labels.csv; nothing is written then.
    """
    try:
        with opened(memory) as known:
            _pack(source, dest, shard_bytes, compact, known)
    except DamagedError as damage:
        assert memory
        print(f"pack: {damage}; it is made anew, and all files are read again")
        forget(memory)
        with opened(memory) as known:
            _pack(source, dest, shard_bytes, compact, known)


def _pack(source: Path, dest: Path, shard_bytes: int, compact: bool, known: Memory) -> None:
    place = str(source.resolve())
    ignored = _list_files(source, dest, place, known)
    dest.mkdir(parents=True, exist_ok=True)
    _refuse_other_labels(source, dest)
    if known.is_alone:
        pack_tar.remove_temporary(dest)  # left by a run that was killed
    shards = _shards(dest)
    gone = removed.read(dest / REMOVED) if os.path.lexists(dest / REMOVED) else {}
    setting = Setting(source, dest, secrets.token_hex(8))
    _examine(shards, setting, known)
    size, unread = known.unread()
    for read in results(pack_tar.read_files, _chunks(unread), pack_tar.start, setting, processes_for(size), "pack"):
        known.learn(read)
    known.remember_learned(place)
    dropped = _to_drop(known.compare(), shard_bytes, compact)
    known.drop(dropped)
    back = known.number_living((shard, name) for shard, names in gone.items() for name in names)
    try:
        made = {shard.file.replace(dest / shard.name).name for shard in _write_shards(shard_bytes, setting, known)}
    finally:
        pack_tar.remove_temporary(dest, setting.word)
    known.remember_learned(place)
    # The table last: it may name a shard that is not there, which prepare refuses; never lack one that still is.
    for name in dropped - made:
        (dest / name).unlink()
    dead = _write_removed(dest, known)
    if (source / LABELS).is_file() and not (dest / LABELS).exists():
        with replacing(dest / LABELS) as temporary:
            shutil.copyfile(source / LABELS, temporary)
    known.remember_shards(shards | {name: status_of((dest / name).stat()) for name in made}, forgotten=dropped - made)
    kept = len(shards.keys() - dropped)
    print(
        f"pack: {known.number_present()} files in {kept + len(made)} shards under {dest}/: {kept} unchanged, "
        f"{len(made)} new; {ignored} files ignored"
    )
    if dead:
        print(
            f"pack: removed or changed, but still in a shard: {dead}. {dest / REMOVED}, which belongs to the shards, "
            "leaves them out; --compact takes their bytes away, too"
        )
    if back:
        print(f"pack: was left out and is there again: {back}")


def _list_files(source: Path, dest: Path, place: str, known: Memory) -> int:
    """Take down the files to pack by their name in the shards; the number of files ignored as clutter."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder of images.")
    if dest.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{dest}: lies inside {source}, which is to be packed. Name a folder beside it.")
    ignored = 0
    refused: list[str] = []
    unreadable: list[str] = []

    def files() -> Iterator[Listed]:
        nonlocal ignored
        for prefix, _, names, clutter in walk(source, refused):
            ignored += clutter
            for name in sorted(names):
                path = prefix + name
                if path == LABELS:
                    continue
                # A Path for each of many files would take as long as the rest.
                status = _regular(f"{source}/{path}")
                if isinstance(status, str):
                    unreadable.append(f"{path}: {status}")
                else:
                    yield Listed(path, status_of(status), status.st_size)

    known.list_files(place, files())
    require_names(source, refused)
    if unreadable:
        raise UserError(f"{source}: {len(unreadable)} are no files to pack. Remove them:\n" + listed(unreadable))
    if not known.number_present():
        raise UserError(f"{source}: no images to pack.")
    return ignored


def _regular(path: str) -> os.stat_result | str:
    """The status of a regular file, or why it is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if stat.S_ISREG(status.st_mode):
            return status
    except FileNotFoundError:
        pass
    try:
        os.close(open_regular(path)[0])
    except NotAFile as error:
        return str(error)
    return "changed while it was listed"


def _chunks(files: Iterator[Listed]) -> Iterator[list[Listed]]:
    while chunk := list(islice(files, _FILES_OF_A_CHUNK)):
        yield chunk


def _refuse_other_labels(source: Path, dest: Path) -> None:
    """UserError where labels.csv of the shards is not that of the images: who knows which one was edited."""
    if os.path.lexists(dest / LABELS) and not (
        (source / LABELS).is_file() and (source / LABELS).read_bytes() == (dest / LABELS).read_bytes()
    ):
        raise UserError(
            f"{dest / LABELS}: not the same as {source / LABELS}. Keep the one that holds there, and remove "
            f"{dest / LABELS}; then pack again."
        )


def _shards(dest: Path) -> dict[str, str]:
    """The status of each file in `dest` that has the name of a shard. UserError where there is anything else."""
    names = sorted(path.name for path in dest.iterdir() if path.name not in (LABELS, REMOVED))
    if others := [name for name in names if not Path(name).match("shard-*.tar")]:
        raise UserError(f"{dest}: holds {', '.join(others[:5])}; expected shards only. Name another folder.")
    # Those that DVC made links into its cache are shards, too.
    if foreign := [name for name in names if not (SHARD.fullmatch(name) and (dest / name).is_file())]:
        raise _foreign(dest / foreign[0])
    return {name: status_of((dest / name).stat()) for name in names}


def _foreign(path: Path) -> UserError:
    return UserError(
        f"{path}: not a shard that this command wrote, whose name is its hash, or damaged since. Move it away, then "
        "pack again."
    )


def _examine(shards: dict[str, str], setting: Setting, known: Memory) -> None:
    """Take down what the shards hold. UserError where the bytes of one are not those of its name."""
    tasks = []
    for name, status in shards.items():
        is_held = known.hold(name)
        if not (is_held and known.is_unchanged(name, status)):
            tasks.append((setting.dest / name, is_held))
    size = sum(path.stat().st_size for path, _ in tasks)
    found = results(pack_tar.examine, iter(tasks), pack_tar.start, setting, processes_for(size), "pack")
    for (path, is_known), (name, members) in zip(tasks, found, strict=True):
        if name != path.name:
            raise _foreign(path)
        if not is_known:
            known.remember_members(name, members)
            known.hold(name)


def _to_drop(costs: list[tuple[str, int, int]], shard_bytes: int, compact: bool) -> set[str]:
    """The shards of which nothing is to stay: what else lives in them goes into new ones."""
    small = {shard for shard, cost, _ in costs if cost < shard_bytes / 2}
    joined = small if compact and len(small) > 1 else set()
    most_dead = 0 if compact else _MOST_DEAD
    return joined | {shard for shard, cost, living in costs if not living or cost - living > most_dead * cost}


def _write_shards(shard_bytes: int, setting: Setting, known: Memory) -> list[Written]:
    """Write what lives in no shard into new ones, which have no name yet."""
    size, waiting = known.waiting()
    portions = _portions(waiting, shard_bytes)
    written = []
    for shard in results(pack_tar.write_shard, portions, pack_tar.start, setting, processes_for(size), "pack"):
        known.learn(shard.read)
        known.remember_members(shard.name, shard.read.members)
        written.append(shard._replace(read=Read([], [])))  # which would stay in memory
    return written


def _portions(files: Iterable[Listed], shard_bytes: int) -> Iterator[list[Listed]]:
    """Files, in order, that fill a shard each."""
    portion: list[Listed] = []
    size = 0
    for file in files:
        portion.append(file)
        size += file.size + tarfile.BLOCKSIZE  # a header before each file
        if size >= shard_bytes:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _write_removed(dest: Path, known: Memory) -> int:
    """Write which files in the shards count as gone; their number."""
    number = known.number_dead()
    if number:
        tables.write(dest / REMOVED, removed.COLUMNS, known.dead())
    else:
        (dest / REMOVED).unlink(missing_ok=True)
    return number


if __name__ == "__main__":
    run_main(main)
