"""What packing costs: `.venv/bin/python -m benchmarks.pack [--files 10000 100000] [--before 0a82247]`.

For each number of small files: packing them for the first time, again unchanged, twice, with 1 % more, without 0.1 % at
random, without these for good (--compact), and after the memory is lost; by the code of a commit and by that of the
working tree. CPU seconds and peak memory are those of the command and its processes, without DVC's; the bytes are what
`dvc add` has put into an empty cache, and so what `dvc push` sends. At the end, how CPU seconds grow with the number of
files: the exponent of the last two numbers.
"""

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_BYTES = 1400  # about a CIFAR picture as JPEG
_CLASSES = 100
# Of what was written in the last two seconds, packing trusts no time stamp.
_SETTLE = 3


class Cost(NamedTuple):
    """CPU seconds, peak memory of the largest process in MB, wall seconds, and the bytes that DVC's cache grew by."""

    cpu: float
    peak: float
    wall: float
    sent: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description="What packing costs.")
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000], help="(default: 10000 100000)")
    parser.add_argument("--before", metavar="COMMIT", default="0a82247", help="to compare with (default: 0a82247)")
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, n = 1", flush=True)
    costs: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        old = Path(name, "before")
        old.mkdir()
        archive = subprocess.run(
            ["git", "archive", arguments.before, "scripts", "stages"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "x"], cwd=old, input=archive.stdout, check=True)
        for number in arguments.files:
            for version, code in (("before", old), ("after", ROOT)):
                folder = Path(name, "run")
                for step, cost in measure(folder, code, number, is_new=version == "after").items():
                    print(
                        f"{number:>9,} {version:6} {step:14} CPU {cost.cpu:6.2f} s  peak {cost.peak:4.0f} MB  "
                        f"wall {cost.wall:6.2f} s  to send {cost.sent / 1e6:8.2f} MB",
                        flush=True,
                    )
                    costs.setdefault((version, step), []).append(cost.cpu)
                shutil.rmtree(folder)
    if len(arguments.files) > 1:
        few, many = arguments.files[-2:]
        for (version, step), values in costs.items():
            exponent = math.log(values[-1] / values[-2]) / math.log(many / few)
            print(f"growth {version:6} {step:14} {exponent:.2f}")


def measure(folder: Path, code: Path, number: int, *, is_new: bool) -> dict[str, Cost]:
    """The cost of each step, in a project of its own in `folder`."""
    source, project = folder / "images", folder / "project"
    project.mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": str(code)}
    dvc(project, "init", "--no-scm", "--quiet")
    write(source, range(number))
    time.sleep(_SETTLE)

    def step(*options: str) -> Cost:
        before = size_of(project / ".dvc/cache")
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.pack", source, "data", *options],
            cwd=project,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        assert status == 0
        dvc(project, "add", "--quiet", "data")
        sent = size_of(project / ".dvc/cache") - before
        return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, wall, sent)

    costs = {"first": step(), "unchanged": step(), "again": step()}
    write(source, range(number, number + number // 100))
    time.sleep(_SETTLE)
    costs["+1 %"] = step()
    paths = sorted(source.rglob("*.jpg"))
    for path in random.Random(0).sample(paths, number // 1000):
        path.unlink()
    costs["-0.1 %"] = step()
    if is_new:
        costs["--compact"] = step("--compact")
        shutil.rmtree(project / ".dvc/tmp/pack")
        costs["memory lost"] = step()
    return costs


def write(folder: Path, numbers: range) -> None:
    """Files of about 1.4 kB, each of other bytes, of which the number decides all."""
    for label in range(_CLASSES):
        (folder / f"{label:02}").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        content = random.Random(number).randbytes(_BYTES + number % 200)
        (folder / f"{number % _CLASSES:02}" / f"{number:08}.jpg").write_bytes(content)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def dvc(project: Path, *words: str) -> None:
    subprocess.run([ROOT / ".venv/bin/dvc", *words], cwd=project, check=True)


if __name__ == "__main__":
    main()
