"""What DVC and start-up cost: `.venv/bin/python -m benchmarks.startup`.

In a throw-away clone of HEAD, each round runs `dvc repro --force`, then the three stages by themselves, then the bare
imports, one after the other, so that whatever else the machine does falls on all of them. Printed per quantity: the
median over the rounds and, in brackets, the smallest and the largest.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages.model.runtime import cpu_name

ROOT = Path(__file__).parent.parent
# What a stage imports from outside the project before its first line, and nothing else.
BARE_IMPORTS = {
    "prepare": "import numpy, PIL.Image, pydantic, yaml",
    "train": "import torch",
    "evaluate": "import torch",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description="Wall time of dvc repro over that of its stages; start-up."
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    rounds = parser.parse_args().rounds
    ratios: list[float] = []
    walls: dict[str, list[float]] = {name: [] for name in ("dvc repro --force", *BARE_IMPORTS)}
    first_lines: dict[str, list[float]] = {name: [] for name in BARE_IMPORTS}
    imports: dict[str, list[float]] = {name: [] for name in BARE_IMPORTS}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "project")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        subprocess.run([sys.executable, "-m", "scripts.get_data"], cwd=clone, check=True)
        for number in range(rounds + 1):
            print(f"round {number} of {rounds}" if number else "warming up", file=sys.stderr, flush=True)
            repro, _ = seconds([ROOT / ".venv/bin/dvc", "repro", "--force"], clone)
            stages = {name: seconds([sys.executable, "-m", f"stages.{name}"], clone) for name in BARE_IMPORTS}
            bare = {
                name: seconds([sys.executable, "-c", f"{code}; print(flush=True)"], clone)[1]
                for name, code in BARE_IMPORTS.items()
            }
            if number == 0:
                continue
            ratios.append(repro / sum(wall for wall, _ in stages.values()))
            walls["dvc repro --force"].append(repro)
            for name, (wall, first_line) in stages.items():
                walls[name].append(wall)
                first_lines[name].append(first_line)
                imports[name].append(bare[name])
    print(f"{cpu_name()}, {rounds} rounds")
    print(f"dvc repro ÷ sum of its stages by themselves  {spread(ratios)}")
    for name, values in walls.items():
        print(f"wall of {name:17}  {spread(values)} s")
    for name in BARE_IMPORTS:
        print(
            f"{name:8}  until its first line {spread(first_lines[name])} s; "
            f"`{BARE_IMPORTS[name]}` {spread(imports[name])} s"
        )


def seconds(command: list[str | Path], cwd: Path) -> tuple[float, float]:
    """Wall seconds of a command, and seconds until its first line on stdout (its end, where it prints none)."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    first_line = time.perf_counter() - started
    process.communicate()
    if process.returncode:
        sys.exit(f"error: {command} exited with {process.returncode}")
    return time.perf_counter() - started, first_line


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    main()
