"""How fast prepare is: `.venv/bin/python -m benchmarks.prepare [small] [large] [memory] [pack] [startup]`.

small    CIFAR JPEGs, no resizing: decoding by prepare, on all cores, and all of prepare, each ÷ one thread of Pillow
large    500 px to 32, 64 and 224, on one core: the same
memory   peak memory at 60,000 and at 600,000 synthetic images of 32 px
pack     dvc add, push and pull of packed ÷ unpacked images; what a push sends after 1 % more
startup  until the first image ÷ the bare imports

The peer is what one writes first: Image.open(path).convert("RGB"), ImageOps.fit with the bicubic filter, one thread,
into one array. Rounds are interleaved; medians, with the smallest and the largest in brackets.
"""

import argparse
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.cifar import ARCHIVE
from benchmarks.startup import ROOT, spread
from stages.model.runtime import cpu_name
from stages.prepare import decode, layouts
from stages.prepare.decode import Recipe, decode_all
from stages.prepare.picture import pixel_sha256
from stages.prepare.table import open_table


def main() -> None:
    parts: dict[str, Callable[[Path, int], None]] = {
        "small": small,
        "large": large,
        "memory": memory,
        "pack": pack,
        "startup": startup,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description="How fast prepare is.")
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help=f"which of {', '.join(parts)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {arguments.rounds} rounds")
    for name in arguments.parts or parts:
        with tempfile.TemporaryDirectory() as folder:
            parts[name](Path(folder), arguments.rounds)


def small(folder: Path, rounds: int) -> None:
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder / "all", filter="data")
    data = (folder / "all" / "train").rename(folder / "data")
    paths = sorted(data.rglob("*.jpg"))
    table, recipe = found(data, folder, 32)
    decode_all(table, recipe)
    assert np.array_equal(squares(recipe), by_pillow(paths, 32)), "the pixels differ from Pillow's"
    decoding, whole = [], []
    for _ in range(rounds):
        peer = seconds(by_pillow, paths, 32)
        decoding.append(peer / seconds(decode_all, table, recipe))
        whole.append(peer / seconds(run_prepare, folder, 32))
    print(
        f"small: {len(paths)} CIFAR JPEGs, pixels equal; ÷ one thread of Pillow ({peer / len(paths) * 1e6:.0f} µs each)"
    )
    print(f"  decoding, hashing and writing {spread(decoding)}; all of prepare, as a process {spread(whole)}")


def large(folder: Path, rounds: int) -> None:
    generator = np.random.default_rng(0)
    for label in "ab":
        (folder / "data" / label).mkdir(parents=True)
        for number in range(300):
            coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(
                folder / "data" / label / f"{number}.jpg", quality=90
            )
    paths = sorted((folder / "data").rglob("*.jpg"))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)  # as prepare's processes have it, which import PyTorch later than this one
    for side in (32, 64, 224):
        table, recipe = found(folder / "data", folder, side)
        ratios, fair, unhashed = [], [], []
        for _ in range(rounds + 1):
            mine = seconds(decode_all, table, recipe)
            ratios.append(seconds(by_pillow, paths, side) / mine)
            fair.append(seconds(by_pillow, paths, side, True) / mine)
            with unittest.mock.patch.object(decode, "pixel_sha256", lambda _: bytes(32)):
                unhashed.append(seconds(by_pillow, paths, side) / seconds(decode_all, table, recipe))
        print(
            f"large: 500×375 JPEG → {side}, one core: ÷ Pillow {spread(ratios[1:])}; were no pixels hashed "
            f"{spread(unhashed[1:])}; ÷ Pillow that hashes them, too {spread(fair[1:])}"
        )
    os.sched_setaffinity(0, cores)


def memory(folder: Path, _: int) -> None:
    peaks = {}
    for number in (60_000, 600_000):
        data = folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        generator = np.random.default_rng(0)
        for shard in range(0, number, 20_000):
            with tarfile.open(data / f"{shard:07}.tar", "w") as tar:
                for index in range(shard, shard + 20_000):
                    pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8).tobytes()
                    content = b"P6 32 32 255\n" + pixels
                    info = tarfile.TarInfo(f"{index % 10}/{index:07}.ppm")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                    tar.members = []  # type: ignore[attr-defined]
        peaks[number] = run_prepare(folder, 32)
        print(f"memory: {number} images, peak {peaks[number]:.0f} MB, the largest of prepare's processes")
    print(f"memory: difference {peaks[600_000] - peaks[60_000]:.0f} MB")


def pack(folder: Path, rounds: int) -> None:
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    dvc = str(ROOT / ".venv/bin/dvc")
    walls: dict[str, float] = {}
    for form in ("unpacked", "packed"):
        project = folder / f"project-{form}"
        project.mkdir()
        commands(
            project,
            [dvc, "init", "--no-scm", "-q"],
            [dvc, "remote", "add", "-d", "here", str(folder / f"remote-{form}")],
        )
        if form == "packed":
            started = time.perf_counter()
            commands(project, [sys.executable, "-m", "scripts.pack", str(folder / "unpacked"), "data"])
            print(f"pack: packing takes {time.perf_counter() - started:.1f} s")
        else:
            shutil.copytree(folder / "unpacked", project / "data")
        walls[form] = 0.0
        for command in (["add", "data"], ["push"], ["pull"]):
            if command == ["pull"]:
                shutil.rmtree(project / "data")
                shutil.rmtree(project / ".dvc" / "cache")
            took = seconds(commands, project, [dvc, *command, "-q"])
            walls[form] += took
            print(f"pack: {form} {command[0]} {took:.1f} s")
    print(f"pack: packed ÷ unpacked 1/{walls['unpacked'] / walls['packed']:.1f}")
    project, remote = folder / "project-packed", folder / "remote-packed"
    before = size_of(remote)
    for path in sorted((folder / "unpacked" / "train").rglob("*.jpg"))[::100]:
        picture = ImageOps.mirror(Image.open(path))
        picture.save(path.with_name(f"new-{path.name}"), quality=75)
    commands(
        project,
        [sys.executable, "-m", "scripts.pack", str(folder / "unpacked"), "data"],
        [dvc, "add", "data", "-q"],
        [dvc, "push", "-q"],
    )
    print(f"pack: 1 % more images; the push sends {(size_of(remote) - before) / before:.4f} of the set's bytes")


def startup(folder: Path, rounds: int) -> None:
    from tests.project import write_images

    write_images(folder / "data", {"a": 60, "b": 60}, side=32)
    write_params(folder, 32)
    code = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"
    imports = (
        "import concurrent.futures.process, csv, multiprocessing, sqlite3, numpy, PIL.Image, pydantic, simplejpeg, "
        "tqdm, yaml"
    )
    first_image = (
        "from stages.prepare import __main__ as prepare, decode; import sys; sys.argv = ['']\n"
        "whole = decode.pixel_sha256\n"
        "def first(rgb):\n  print(time.perf_counter() - s, file=sys.stderr)\n  decode.pixel_sha256 = whole\n"
        "  return whole(rgb)\n"
        "decode.pixel_sha256 = first\nprepare.main()\nassert 'torch' not in sys.modules"
    )
    bare, until = [], []
    for _ in range(rounds):
        done = commands(folder, [sys.executable, "-c", code.format(imports)])
        bare.append(float(done.stdout))
        done = commands(folder, [sys.executable, "-c", "import time; s = time.perf_counter()\n" + first_image])
        until.append(float(done.stderr.split()[0]))
    print(f"startup: until the first image {spread(until)} s; its bare imports {spread(bare)} s; torch is not imported")


def found(data: Path, folder: Path, side: int) -> tuple[sqlite3.Connection, Recipe]:
    """What prepare knows before it decodes; the peer is given its paths, too."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    table = open_table(work / "images.sqlite")
    return table, Recipe(layouts.scan(data, "", table, work).containers, work / "squares", side, "crop")


def squares(recipe: Recipe) -> np.ndarray:
    return np.memmap(recipe.target, np.uint8, mode="r").reshape(-1, recipe.side, recipe.side, 3)


def by_pillow(paths: list[Path], side: int, hashed: bool = False) -> np.ndarray:
    array = np.zeros((len(paths), side, side, 3), np.uint8)
    for index, path in enumerate(paths):
        with Image.open(path) as picture:
            rgb = picture.convert("RGB")
        if hashed:
            pixel_sha256(np.asarray(rgb))
        array[index] = np.asarray(
            rgb if rgb.size == (side, side) else ImageOps.fit(rgb, (side, side), Image.Resampling.BICUBIC)
        )
    return array


def run_prepare(folder: Path, side: int) -> float:
    """Run the stage on folder/data; the peak resident memory of its largest process, in MB."""
    write_params(folder, side)
    code = (
        "import resource, sys; sys.argv = ['']; from stages.prepare import __main__ as prepare; prepare.main(); "
        "print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
    )
    # By way of a shell: Linux counts the memory of the process that starts another, this one, as part of its peak.
    done = commands(folder, ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code])
    return int(done.stdout.split()[-1]) * 1024 / 1e6


def write_params(folder: Path, side: int) -> None:
    from tests.project import edit_params

    shutil.copy(ROOT / "params.yaml", folder)
    edit_params(folder, image_size=side)


def commands(folder: Path, *lines: list[str]) -> subprocess.CompletedProcess[str]:
    for line in lines:
        done = subprocess.run(
            line, cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    return done


def seconds(work: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
