"""What many experiments cost a review: `.venv/bin/python -m benchmarks.experiments`.

In a throw-away clone of HEAD with as many experiments and as many commits more, each with a dvc.lock of its own, the
CPU seconds of `review experiments` and `review index`, by the code of this tree and of `--before`, in turn; their
medians, with the smallest and the largest in brackets.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.startup import ROOT, spread
from stages.model.runtime import cpu_name

_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from review.__main__ import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description="CPU seconds of review.")
    parser.add_argument("--count", type=int, default=1000, help="experiments, and commits (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--before", default="0a82247", help="the revision whose code is compared (default: 0a82247)")
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {arguments.count:,} experiments and commits, {arguments.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        clone, old = Path(folder, "project"), Path(folder, "old")
        for target, revision in ((clone, "HEAD"), (old, arguments.before)):
            subprocess.run(["git", "clone", "--quiet", "--no-checkout", ROOT, target], check=True)
            commit = subprocess.check_output(["git", "rev-parse", revision], cwd=ROOT, text=True).strip()
            subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=target, check=True)
        _add(clone, arguments.count)
        for verb in (["experiments"], ["index", "--output", f"{folder}/index.html"]):
            pairs = [[_cpu_seconds(code, verb, clone) for code in (old, ROOT)] for _ in range(arguments.rounds)]
            before, after = map(list, zip(*pairs, strict=True))
            print(f"{verb[0]}: {spread(before)} s before, {spread(after)} s now")


def _add(clone: Path, count: int) -> None:
    """Commits of which each is a run with another rate, as DVC leaves them: experiments, and a branch."""
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip()
    texts = {path: Path(clone, path).read_text() for path in ("dvc.lock", "params.yaml", "metrics/evaluate.json")}
    stream = []
    for number in range(2 * count):
        is_experiment = number < count
        reference = f"refs/exps/{head[:2]}/{head[2:]}/exp-{number}" if is_experiment else "refs/heads/many"
        begin = f"from {head}\n" if is_experiment or number == count else ""
        stream.append(
            f"commit {reference}\ncommitter A <a@example.org> {1_700_000_000 + number} +0000\ndata 0\n{begin}"
        )
        for path, content in _run(texts, number).items():
            stream.append(f"M 100644 inline {path}\ndata {len(content.encode())}\n{content}\n")
    subprocess.run(["git", "fast-import", "--quiet"], cwd=clone, input="".join(stream).encode(), check=True)


def _run(texts: dict[str, str], number: int) -> dict[str, str]:
    lock, params, metrics = texts.values()
    figures = json.dumps(json.loads(metrics) | {"accuracy": number / 1e6}, indent=2) + "\n"
    old, new = (hashlib.md5(text.encode()).hexdigest() for text in (metrics, figures))
    lock = lock.replace(old, new)
    rate = f"lr: {0.1 + number / 1e4:.4f}\n"
    return {
        "dvc.lock": lock.replace("lr: 0.1\n", rate),
        "params.yaml": params.replace("\nlr: 0.1\n", f"\n{rate}"),
        "metrics/evaluate.json": figures,
    }


def _cpu_seconds(code: Path, verb: list[str], clone: Path) -> float:
    """Of a process, and of Git's that it has waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-P", "-c", _RUN, str(code), *verb]
    subprocess.run(command, cwd=clone, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
