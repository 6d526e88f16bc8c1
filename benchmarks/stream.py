"""Shards that come from a storage: `.venv/bin/python -m benchmarks.stream [--images 16000] [--side 224] [--rounds 5]`.

images/s of a pass over the train split in an epoch's order, decoded and normalised, by the clock: from `rclone serve
s3` on loopback, through an empty folder for a tenth of the bytes, ÷ from local shards that are in the system's cache.
Rounds are interleaved; medians, smallest and largest in brackets.

Then a pass in which the server is gone for 30 seconds, and one in which it does not come back.
"""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.shards import order_of, written
from benchmarks.startup import spread
from stages.common.errors import UserError
from stages.model import streaming
from stages.model.dataset import Split
from stages.model.runtime import cpu_name
from stages.model.sharded import ShardedImages
from stages.model.sources import Shard

# Where the tests' servers look for rclone.
os.environ.setdefault("TESTS_VENV", sys.prefix)
from tests.servers import free_port, s3
from tests.stages.train.test_streamed import name_remote, push

_BATCH = 32
_GONE_SECONDS = 30.0
_PATIENCE_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description="Shards that come from a storage.")
    parser.add_argument("--images", type=int, default=16000, help="in the split (default: 16000)")
    parser.add_argument("--side", type=int, default=224, help="of an image, in pixels (default: 224)")
    parser.add_argument("--shard", type=int, default=1_500_000, help="bytes of a shard (default: 1500000)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "project"
        (project / "prepared").mkdir(parents=True)
        (project / ".dvc").mkdir()
        os.chdir(project)
        _, local, described = written(Path("prepared"), arguments.images, arguments.side, arguments.shard)
        served = Path(name) / "served"
        (project / "dvc.lock").write_text(push(Path("prepared"), served / "bucket/project"))
        port = free_port()
        name_remote(project, port)
        size = sum(shard.size for shard in described)
        os.environ |= {"SHARDS_FROM": "bucket", "SHARDS_CACHE_GB": str(size / 10 / 1e9)}
        os.environ |= {"SHARDS_WAIT_SECONDS": str(_PATIENCE_SECONDS), "AWS_MAX_ATTEMPTS": "1"}
        with s3(served, port):
            speeds(local, described, arguments.rounds)
        outages(local, described, served, port)


def streamed(local: Split, described: Sequence[Shard]) -> Split:
    """The same split from the storage, with an empty folder."""
    shutil.rmtree(".dvc/tmp/shards", ignore_errors=True)
    streaming._opened.clear()
    images = local.sharded
    assert images
    source = streaming.open_streamed(described)
    again = ShardedImages(images._places, source, images.shape[1], 3, Path("prepared/train-images.npy"))
    return Split(again, local.labels, local.info)


def seconds_of_a_pass(split: Split) -> float:
    started = time.perf_counter()
    for rows in split.rows(order_of(split).split(_BATCH)):
        split.normalise(rows)
    return time.perf_counter() - started


def speeds(local: Split, described: Sequence[Shard], rounds: int) -> None:
    here, there, ratios = [], [], []
    for number in range(rounds + 1):
        seconds = [seconds_of_a_pass(split) for split in (local, streamed(local, described))]
        if number:
            here.append(len(local) / seconds[0])
            there.append(len(local) / seconds[1])
            ratios.append(seconds[0] / seconds[1])
    print(
        f"local     {spread(here)} images/s\nstreamed  {spread(there)} images/s, ÷ local {spread(ratios)}", flush=True
    )


def outages(local: Split, described: Sequence[Shard], served: Path, port: int) -> None:
    """The server ends in the middle of a pass; it comes back, and then it does not."""
    middle = len(order_of(local).split(_BATCH)) // 2
    for comes_back in (True, False):
        with ExitStack() as stack:
            server = stack.enter_context(ExitStack())
            server.enter_context(s3(served, port))
            split = streamed(local, described)
            started = time.perf_counter()
            gone = 0.0
            try:
                for step, rows in enumerate(split.rows(order_of(split).split(_BATCH))):
                    split.normalise(rows)
                    if step == middle:
                        server.close()
                        gone = time.perf_counter()
                        if comes_back:
                            timer = threading.Timer(_GONE_SECONDS, lambda: stack.enter_context(s3(served, port)))
                            stack.callback(timer.join)
                            timer.start()
            except UserError as error:
                print(f"gone for good: {time.perf_counter() - gone:.0f} s later: {error}", flush=True)
            else:
                print(f"gone for {_GONE_SECONDS:.0f} s: a pass of {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
