"""What prepare costs as shards: `python -m benchmarks.prepare_shards [--images 10000 100000] [--before COMMIT]`.

Synthetic images of 128 px in a hundred classes, made 112 px. For each number of images, in CPU seconds of all of
prepare's processes, the share of the first process in them, and bytes on disk:

first     the first run: and the most that lies on disk while it runs ÷ what it writes
same      the same again
+1 %      after so many images more; bytes of new files, which DVC's cache takes in and a push sends
-0.1 %    after so many images less
arrays    the first run without shards

and how CPU seconds grow with the number of images: as its power of an exponent. With --before, of that commit's code as
well, which has arrays alone.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.startup import ROOT
from stages.common.files import write_text
from stages.model.runtime import cpu_name

CLASSES = 100
SIDE = 128
STORED = 112
# Seconds between two looks at the disk.
_PAUSE = 0.05
_CODE = (
    "import json, resource, sys; sys.argv = ['']; from stages.prepare import __main__ as prepare; prepare.main(); "
    "print(json.dumps([sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]))"
)


class Cost(NamedTuple):
    """CPU seconds of all processes and of the first one; most bytes in the folder that is being made; bytes of what was
    written, and of what of it was not there before."""

    seconds: float
    first_process: float
    peak: int
    written: int
    new: int


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prepare_shards", description="What prepare costs as shards."
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000], help="numbers of images (default: 10000)")
    parser.add_argument("--before", metavar="COMMIT", help="also the code of this commit")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, load {load:.1f}; CPU seconds, n = 1")
    with tempfile.TemporaryDirectory() as name:
        before = Path(name, "before") if arguments.before else None
        if before:
            worktree("add", "--quiet", "--detach", str(before), arguments.before)
        try:
            seconds: dict[str, list[float]] = {}
            for number in arguments.images:
                for what, cost in measure(Path(name) / f"{number}", number, before):
                    seconds.setdefault(what, []).append(cost.seconds)
            for what, of_numbers in seconds.items():
                for index in range(1, len(of_numbers)):
                    few, many = arguments.images[index - 1 : index + 1]
                    exponent = math.log(of_numbers[index] / of_numbers[index - 1]) / math.log(many / few)
                    print(f"exponent from {few} to {many} images: {what} {exponent:.2f}")
        finally:
            if before:
                worktree("remove", "--force", str(before))


def measure(folder: Path, number: int, before: Path | None) -> list[tuple[str, Cost]]:
    """All runs on so many images; prints a line for each."""
    folder.mkdir()
    write_images(folder / "data", range(number))
    found = []
    for code, form in ((before, "before"), (ROOT, "arrays")):
        if code:
            found.append((form, run(folder, code, sharded=False)))
            report(form, number, found[-1][1])
            shutil.rmtree(folder / "prepared")
    for step in ("first", "same", "+1 %", "-0.1 %"):
        if step == "+1 %":
            write_images(folder / "data", range(number, number + number // 100))
        if step == "-0.1 %":
            for path in sorted((folder / "data").rglob("*.jpg"))[::1010]:
                path.unlink()
        found.append((step, run(folder, ROOT, sharded=True)))
        report(step, number, found[-1][1])
    shutil.rmtree(folder)
    return found


def report(what: str, number: int, cost: Cost) -> None:
    print(
        f"{number} images, {what}: {cost.seconds:.1f} s, {cost.first_process / cost.seconds:.0%} in the first process; "
        f"peak ÷ result {cost.peak / cost.written:.2f}; {cost.new / 1e6:.0f} of {cost.written / 1e6:.0f} MB are new "
        f"({cost.new / cost.written:.0%})",
        flush=True,
    )


def run(folder: Path, code: Path, *, sharded: bool) -> Cost:
    """Run the stage by the code in a folder, on folder/data."""
    text = (code / "configs/digits.yaml").read_text(encoding="utf-8")
    changes = {"image_size": str(STORED), "shards_above": "1" if sharded else "0"}
    lines = [
        f"{key}: {changes.get(key, value)}" if value else key
        for key, _, value in (line.partition(": ") for line in text.splitlines())
    ]
    write_text(folder / "params.yaml", "\n".join(lines) + "\n")
    before = {path.stat().st_ino for path in files_of(folder / "prepared")}
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(code)},
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = 0
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(_PAUSE):
            peak = max(peak, sum(size_of(path) for path in files_of(folder / ".prepared.tmp")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    is_over.set()
    watcher.join()
    if process.returncode:
        sys.exit(output)
    first, others = json.loads(output.splitlines()[-1])
    written = {path: size_of(path) for path in files_of(folder / "prepared")}
    new = sum(size for path, size in written.items() if path.stat().st_ino not in before)
    return Cost(first + others, first, peak, sum(written.values()), new)


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def size_of(path: Path) -> int:
    """The bytes that a file takes on disk; none where it is gone."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def write_images(folder: Path, numbers: range) -> None:
    """Blurred colours in noise, another picture for each number."""
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    for label in range(CLASSES):
        (folder / f"{label:03}").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cells = np.random.default_rng([1, number]).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        field = np.asarray(Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        pixels = (field + np.roll(noise, number, axis=0)).clip(0, 255).astype(np.uint8)
        path = folder / f"{number % CLASSES:03}" / f"{number:08}.jpg"
        path.write_bytes(simplejpeg.encode_jpeg(pixels, 90, "RGB", "420"))


def worktree(*arguments: str) -> None:
    subprocess.run(["git", "worktree", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
