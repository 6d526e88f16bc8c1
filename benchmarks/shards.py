"""How fast images are loaded: `.venv/bin/python -m benchmarks.shards [--images 4000] [--side 224] [--rounds 5]`.

images/s for a second of CPU time, on one core, of: decoding alone; batches of training out of shards, decoded, and then
normalised; the same out of a mapped array, normalised; that with half of the images mirrored; gathered out of it ahead
of use; and copied to memory that is used again. Rounds are interleaved; medians, smallest and largest in brackets.

Before that, what a pass over files that are in no cache reads of the disk ÷ the files' bytes, for shards in an epoch's
order and for the array in a random one.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.startup import spread
from stages.common import shards
from stages.model.ahead import gathered
from stages.model.dataset import DatasetInfo, Split
from stages.model.runtime import cpu_name
from stages.model.sharded import ShardedImages
from stages.model.sources import Shard, open_shards
from stages.train.augment import flip_
from stages.train.loader import order_in_windows

_BATCH = 256
_SHARD_BYTES = 12 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description="How fast images are loaded.")
    parser.add_argument("--images", type=int, default=4000, help="in the split (default: 4000)")
    parser.add_argument("--side", type=int, default=224, help="of an image, in pixels (default: 224)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument(
        "--folder", type=Path, help="on the disk to be read (default: the system's for what is temporary)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    print(f"{cpu_name()}, one core, load {os.getloadavg()[0]:.1f}, {arguments.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        mapped, sharded, _ = written(folder, arguments.images, arguments.side)
        # First: the system drops nothing that is mapped.
        cold(folder, mapped, sharded)
        speeds(mapped, sharded, arguments.rounds)


def written(folder: Path, images: int, side: int, shard_bytes: int = _SHARD_BYTES) -> tuple[Split, Split, list[Shard]]:
    """The same smooth, noisy pictures, as an array and in shards of JPEG; and these shards."""
    generator = np.random.default_rng(0)
    array = np.lib.format.open_memmap(folder / "train-images.npy", "w+", np.uint8, (images, side, side, 3))
    for place in range(images):
        coarse = torch.from_numpy(generator.integers(0, 256, (1, 3, 14, 14)).astype(np.float32))
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].permute(1, 2, 0).numpy()
        array[place] = (smooth + generator.normal(0, 6, smooth.shape)).clip(0, 255)
    array.flush()
    places = np.zeros(images, shards.PLACE)
    described: list[Shard] = []
    (folder / shards.FOLDER).mkdir()
    pictures: list[bytes] = []
    for place in range(images):
        pictures.append(shards.encode(array[place], 95))
        if sum(map(len, pictures)) > shard_bytes or place == images - 1:
            number, some = len(described), slice(place + 1 - len(pictures), place + 1)
            path = folder / shards.name_of("train", number)
            with path.open("wb") as stream:
                places["offset"][some] = shards.write(stream, pictures)
            places["shard"][some], places["size"][some] = number, [len(picture) for picture in pictures]
            described.append(
                Shard(
                    shards.name_of("train", number), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
                )
            )
            pictures.clear()
    size = sum(shard.size for shard in described)
    print(
        f"{images:,} images of {side} px: array {array.nbytes / 1e6:.0f} MB, "
        f"{len(described)} shards {size / 1e6:.0f} MB"
    )
    info = DatasetInfo(["a"], 3, side, side, "crop", [0.5] * 3, [0.25] * 3, {})
    source = open_shards(described, folder, "")
    labels = torch.zeros(images, dtype=torch.int64)
    sharded = ShardedImages(places, source, side, 3, folder / "train-images.npy")
    again = np.load(folder / "train-images.npy", mmap_mode="c")
    return Split(torch.from_numpy(again), labels, info), Split(sharded, labels, info), described


def order_of(sharded: Split) -> torch.Tensor:
    assert sharded.sharded
    return order_in_windows(sharded.sharded.begins, torch.Generator().manual_seed(0))


def speeds(mapped: Split, sharded: Split, rounds: int) -> None:
    images = sharded.sharded
    assert images
    in_windows = order_of(sharded).split(_BATCH)
    random = torch.randperm(len(mapped), generator=torch.Generator().manual_seed(0)).split(_BATCH)
    flipped = torch.rand(_BATCH, generator=torch.Generator().manual_seed(0)) < 0.5

    def bare(split: Split, order: Sequence[torch.Tensor]) -> None:
        for rows in split.rows(order):
            split.normalise(rows)

    def mirrored() -> None:
        for rows in mapped.rows(random):
            flip_(rows, flipped[: len(rows)])
            mapped.normalise(rows)

    def decoded() -> None:
        content = [images.open(shard) for shard in range(len(images.begins) - 1)]
        row = np.empty(images.shape[1:], np.uint8)
        for shard, offset, size in images._places.tolist():
            shards.decode(content[shard][offset : offset + size], 3, row)

    def gather() -> None:
        rows = torch.empty((_BATCH, *images.shape[1:]), dtype=torch.uint8).numpy()
        for some in random:
            np.take(mapped.images.numpy(), some.numpy(), 0, out=rows[: len(some)], mode="clip")

    contestants: dict[str, Callable[[], None]] = {
        "decoding alone": decoded,
        "shards, decoded": lambda: drain(sharded.rows(in_windows)),
        "shards": lambda: bare(sharded, in_windows),
        "mapped": lambda: bare(mapped, random),
        "mapped, mirrored": mirrored,
        "gathered ahead": lambda: drain(gathered(mapped.images, random, pinned=False)),
        "gathered into memory reused": gather,
    }
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            started = time.process_time()
            run()
            if number:
                measured[name].append(len(mapped) / (time.process_time() - started))
    for name, values in measured.items():
        print(f"{name}: {spread(values)} images/s; ÷ mapped {spread(ratios(values, measured['mapped']))}", flush=True)
    print(f"shards, decoded ÷ decoding alone {spread(ratios(measured['shards, decoded'], measured['decoding alone']))}")


def drain(batches: Iterator[torch.Tensor]) -> None:
    for _ in batches:
        pass


def ratios(some: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(some, others, strict=True)]


def cold(folder: Path, mapped: Split, sharded: Split) -> None:
    files = sorted((folder / shards.FOLDER).iterdir())
    array = [folder / "train-images.npy"]
    random = torch.randperm(len(mapped), generator=torch.Generator().manual_seed(1)).split(_BATCH)
    for name, split, order, read in (
        ("shards", sharded, order_of(sharded).split(_BATCH), files),
        ("array", mapped, random, array),
    ):
        for path in read:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before, started = read_bytes(), time.perf_counter()
        drain(split.rows(order))
        seconds, size = time.perf_counter() - started, sum(path.stat().st_size for path in read)
        print(
            f"cold, {name}: {(read_bytes() - before) / size:.2f} of the files' bytes read, "
            f"{size / seconds / 1e6:.0f} MB/s of them, {len(split) / seconds:.0f} images/s"
        )


def read_bytes() -> int:
    """Of the disk, by this process."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


if __name__ == "__main__":
    main()
