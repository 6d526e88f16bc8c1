"""A folder of images → a few tar files, which DVC adds, pushes and pulls many times faster than many small files.

A shard's bytes depend only on the names and the content of its images, and its name is their hash. Packing a folder
again leaves every shard alone whose images are all still there, and puts new ones into new shards, so `dvc push` sends
little more than what was added.
"""

import argparse
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.common.errors import UserError, run_main
from stages.common.files import replacing
from stages.prepare.labels import LABELS
from stages.prepare.listing import require_names, walk

# Large enough that a data set has few shards, small enough that a removed image costs little to send.
SHARD_BYTES = 64 * 10**6


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.pack", description="Pack a folder of images into a few tar files that prepare reads."
    )
    parser.add_argument("source", type=Path, help="folder of images, in any layout of folders that prepare knows")
    parser.add_argument("dest", type=Path, help="folder of shards; those whose images are unchanged stay as they are")
    parser.add_argument(
        "--shard-mb", type=int, default=SHARD_BYTES // 10**6, metavar="MB", help="size of a shard (default: 64)"
    )
    arguments = parser.parse_args()
    if arguments.shard_mb < 1:
        raise UserError(f"--shard-mb: expected 1 or more; got {arguments.shard_mb}.")
    pack(arguments.source, arguments.dest, arguments.shard_mb * 10**6)


def pack(source: Path, dest: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Make `dest` hold exactly the files of `source`, without clutter, in shards of about `shard_bytes`.

    Raises UserError where `source` holds nothing to pack, and where `dest` holds anything that is not a shard of this
    function, whose name is its hash, or another labels.csv; nothing is written then.
    """
    files, ignored = _files(source, dest)
    dest.mkdir(parents=True, exist_ok=True)
    _refuse_other_labels(source, dest)
    shards = {path: _contents(path) for path in _shards(dest)}
    waiting = dict(files)
    kept = []
    for path, contents in sorted(shards.items()):
        if all(waiting.get(name) is not None and _sha256(waiting[name]) == digest for name, digest in contents.items()):
            kept.append(path)
            for name in contents:
                del waiting[name]
    made = [_write_shard(dest, names, files) for names in _portions(waiting, shard_bytes)]
    for path in sorted(set(shards) - set(kept) - set(made)):
        path.unlink()
    if (source / LABELS).is_file() and not (dest / LABELS).exists():
        with replacing(dest / LABELS) as temporary:
            shutil.copyfile(source / LABELS, temporary)
    print(
        f"pack: {len(files)} files in {len(kept) + len(made)} shards under {dest}/: {len(kept)} unchanged, "
        f"{len(made)} new; {ignored} files ignored"
    )


def _files(source: Path, dest: Path) -> tuple[dict[str, Path], int]:
    """The files to pack by their name in the shards, sorted; the number of files ignored as clutter."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder of images.")
    if dest.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{dest}: lies inside {source}, which is to be packed. Name a folder beside it.")
    files: dict[str, Path] = {}
    ignored = 0
    refused: list[str] = []
    for prefix, _, names, clutter in walk(source, refused):
        ignored += clutter
        files |= {prefix + name: source / (prefix + name) for name in names if prefix + name != LABELS}
    require_names(source, refused)
    if not files:
        raise UserError(f"{source}: no images to pack.")
    return dict(sorted(files.items())), ignored


def _refuse_other_labels(source: Path, dest: Path) -> None:
    """UserError where labels.csv of the shards is not that of the images: who knows which one was edited."""
    if os.path.lexists(dest / LABELS) and not (
        (source / LABELS).is_file() and (source / LABELS).read_bytes() == (dest / LABELS).read_bytes()
    ):
        raise UserError(
            f"{dest / LABELS}: not the same as {source / LABELS}. Keep the one that holds there, and remove "
            f"{dest / LABELS}; then pack again."
        )


def _shards(dest: Path) -> list[Path]:
    entries = sorted(dest.iterdir())
    others = [path.name for path in entries if not path.match("shard-*.tar") and path.name != LABELS]
    if others:
        raise UserError(f"{dest}: holds {', '.join(others[:5])}; expected shards only. Name another folder.")
    shards = [path for path in entries if path.name != LABELS]
    for path in shards:
        if path.is_symlink() or not path.is_file() or path.name != _shard_name(path):
            raise UserError(
                f"{path}: not a shard that this command wrote, whose name is its hash, or damaged since. Move it away, "
                "then pack again."
            )
    return shards


def _contents(shard: Path) -> dict[str, str]:
    """SHA-256 of each file in a shard, by name."""
    try:
        with tarfile.open(shard, "r:") as tar:
            contents = {}
            for info in tar:
                stream = tar.extractfile(info)
                if stream is None:
                    raise tarfile.TarError(f"{info.name} is no file")
                contents[info.name] = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
            return contents
    except tarfile.TarError as error:
        raise UserError(f"{shard}: damaged ({error}). Remove it and pack again.") from None


def _portions(files: dict[str, Path], shard_bytes: int) -> Iterator[list[str]]:
    """Names of files, in order, that fill a shard each."""
    names: list[str] = []
    size = 0
    for name, path in files.items():
        names.append(name)
        size += path.stat().st_size + 512  # a header before each file
        if size >= shard_bytes:
            yield names
            names, size = [], 0
    if names:
        yield names


def _write_shard(dest: Path, names: Iterable[str], files: dict[str, Path]) -> Path:
    """Write a tar file without times, owners and permissions, named by its hash."""
    temporary = dest / ".shard.tmp"
    try:
        with tarfile.open(temporary, "x", format=tarfile.PAX_FORMAT) as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = files[name].stat().st_size
                with files[name].open("rb") as stream:
                    tar.addfile(info, stream)
                tar.members = []  # type: ignore[attr-defined]  # TarFile would keep every member in memory
        return temporary.rename(dest / _shard_name(temporary))
    finally:
        temporary.unlink(missing_ok=True)


def _shard_name(path: Path) -> str:
    return f"shard-{_sha256(path)[:16]}.tar"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    run_main(main)
