"""What a comparison costs: `.venv/bin/python -m benchmarks.review`.

In a throw-away clone of HEAD with one experiment more, `review diff` and `dvc exp diff` of the same two revisions, one
after the other in each round; the ratio's median, with the smallest and the largest in brackets.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.startup import ROOT, seconds, spread
from stages.model.runtime import cpu_name


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review", description="review diff ÷ dvc exp diff.")
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (default: 10)")
    rounds = parser.parse_args().rounds
    dvc = ROOT / ".venv/bin/dvc"
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "project")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        subprocess.run(["make", "--quiet", "repro"], cwd=clone, check=True, capture_output=True)
        exp_run: list[str | Path] = [
            dvc,
            "exp",
            "run",
            "--temp",
            "--quiet",
            "--name",
            "other",
            "--set-param",
            "lr=0.02",
        ]
        subprocess.run(exp_run, cwd=clone, check=True, capture_output=True)
        mine, theirs = [], []
        for number in range(rounds + 1):
            pair = (
                seconds([sys.executable, "-m", "review", "diff", "HEAD", "other"], clone)[0],
                seconds([dvc, "exp", "diff", "HEAD", "other"], clone)[0],
            )
            if number:
                mine.append(pair[0])
                theirs.append(pair[1])
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    print(f"{cpu_name()}, {rounds} rounds")
    print(f"review diff {spread(mine)} s; dvc exp diff {spread(theirs)} s; ÷ {spread(ratios)}")


if __name__ == "__main__":
    main()
