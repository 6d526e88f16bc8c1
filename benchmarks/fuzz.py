"""A stranger's files under `review diff --gate`: `.venv/bin/python -m benchmarks.fuzz`.

In a throw-away clone of HEAD, reproduced and pushed to a remote of its own, each case is a commit in which one of the
files that a review reads was mutated: in bytes, in lines, or in the parsed content; some are also recorded in dvc.lock
as what the run wrote, as a forger would. Each is compared with its parent, in a process of its own that is forked after
the imports. What must not happen:

traceback  it ends in anything but the gate's verdict or a user's error
wrong      the gate lets it in, though the file does not mean what it meant
slow       it takes more than 10 s
large      it takes more than 1 GB of memory

What a file means: of dvc.lock, commands, params, and the digests of deps and outs; of dvc.yaml, commands, and the names
of params, deps and outs; of data.dvc, the path and the digest; of params.yaml, what the stages' runs recorded; of the
others, their bytes, and where the forger recorded other ones, the val images with their classes, and the accuracy.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
SECONDS, BYTES = 10, 10**9
METRICS, ANSWERS = "metrics/evaluate.json", "plots/confusion.csv"
FILES = ("dvc.lock", "dvc.yaml", "data.dvc", "params.yaml", METRICS, "metrics/train.json", ANSWERS)
RECORDED = (METRICS, ANSWERS)

# What has broken readers: of YAML, JSON, CSV, Git and terminals.
FRAGMENTS = [
    b"\0", b"\r", b"\r\n", b"\xff\xfe", b"\xef\xbb\xbf", "\x85".encode(), "\u2028".encode(), b"\x1b]0;x\x07", b'"',
    b"'", "\u202e".encode(), b"|", b"`", b"@all", b"<!--", b"&a ", b"*a", b"!!python/object/apply:os.system [id]",
    b"- ", b": ", b"{", b"}", b"[", b"]", b",", b"~", b"null", b".nan", b".inf", b"NaN", b"-Infinity", b"1e999",
    b"9" * 5000, b"[" * 5000, b"{a: " * 3000, b"\n---\n", b"<<: *a\n", b"../../../etc/passwd",
    b"/dev/zero", b"a\nHEAD:b",    b"\\ud800", b"x" * 300_000, "é".encode() * 1000,
]  # fmt: skip
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 10)
)
VALUES: list[Any] = [
    None, True, 0, -1, 2**70, 1.5, "", "x", "a\nb", "../../etc/passwd", "/etc/passwd", [], ["x"], {}, {"x": 1}, [None],
    [[]], {"x": {"y": [1]}}, "\x1b[2J", "\u202e", "0" * 32, [{"path": "x"}], {"path": None}, "${x}",
]  # fmt: skip


class Case(NamedTuple):
    """A mutated file, and whether dvc.lock records it as what the run wrote."""

    path: str
    how: str
    content: bytes
    mode: str = "100644"
    recorded: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=1000, help="how many commits (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    parser.add_argument("--project", type=Path, help="a clone that is reproduced and pushed (default: a new one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = arguments.project or make_project(Path(folder, "project"))
        os.chdir(project)
        cases = list(mutations(random.Random(arguments.seed), arguments.cases))
        commits = commit_all(cases)
        preload()
        started = time.perf_counter()
        found: list[str] = []
        slowest, largest = 0.0, 0
        outcomes: Counter[str] = Counter()
        for case, commit in zip(cases, commits, strict=True):
            outcome, seconds, memory, said = judge(commit)
            slowest, largest = max(slowest, seconds), max(largest, memory)
            if outcome == "passed" and not means_the_same(case):
                outcome = "wrong"
            outcomes[outcome] += 1
            if outcome not in ("passed", "refused"):
                found.append(
                    f"{outcome}: {case.path}, {case.how}{', recorded' if case.recorded else ''}, {commit}\n{said}"
                )
    print(*found, sep="\n", file=sys.stderr)
    print(
        f"{len(cases)} cases, seed {arguments.seed}, in {time.perf_counter() - started:.0f} s: "
        + ", ".join(f"{outcomes[name]} {name}" for name in ("refused", "passed", "traceback", "wrong", "slow", "large"))
        + f"; slowest {slowest:.2f} s, largest {largest / 1e6:.0f} MB"
    )
    sys.exit(bool(found))


def make_project(clone: Path) -> Path:
    """A clone of HEAD in which the pipeline has run, pushed to a remote beside it."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    storage = clone.with_name("storage")
    storage.mkdir()
    for command in (
        [".venv/bin/python", "-m", "scripts.get_data"],
        [".venv/bin/dvc", "repro", "--quiet"],
        [".venv/bin/dvc", "remote", "modify", "local", "url", str(storage)],
        [".venv/bin/dvc", "push", "--quiet"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "--all", "--message", "base"],
    ):
        subprocess.run(command, cwd=clone, check=True, stdout=subprocess.DEVNULL)
    return clone


# --- mutations -------------------------------------------------------------------------------------------------------


def mutations(chance: random.Random, count: int) -> Iterator[Case]:
    """So many cases, the files in turn."""
    for number in range(count):
        path = FILES[number % len(FILES)]
        content = Path(path).read_bytes()
        how, mutate = chance.choice(MUTATIONS)
        mutated = mutate(content, path, chance)
        mode = "120000" if how == "link" else "100644"
        yield Case(path, how, mutated, mode, path in RECORDED and chance.random() < 0.5)


def flip_bytes(content: bytes, _: str, chance: random.Random) -> bytes:
    mutated = bytearray(content)
    for _number in range(chance.randint(1, 4)):
        mutated[chance.randrange(len(mutated))] = chance.randrange(256)
    return bytes(mutated)


def flip_digit(content: bytes, _: str, chance: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if chr(byte) in "0123456789abcdef"]
    mutated = bytearray(content)
    mutated[chance.choice(places)] = ord(chance.choice("0123456789abcdef"))
    return bytes(mutated)


def insert(content: bytes, _: str, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(FRAGMENTS) + content[place:]


def replace_text(content: bytes, _: str, chance: random.Random) -> bytes:
    words = [match.span() for match in re.finditer(rb"[^\s:,{}\[\]]+", content)]
    start, end = chance.choice(words)
    return content[:start] + chance.choice(FRAGMENTS) + content[end:]


def lines(content: bytes, _: str, chance: random.Random) -> bytes:
    """Delete, double, swap or move lines."""
    parts = content.split(b"\n")
    one, other = chance.randrange(len(parts)), chance.randrange(len(parts))
    match chance.randrange(4):
        case 0:
            del parts[one]
        case 1:
            parts.insert(other, parts[one])
        case 2:
            parts[one], parts[other] = parts[other], parts[one]
        case _:
            parts = parts[: min(one, other)]
    return b"\n".join(parts)


def truncate(content: bytes, _: str, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def bomb(content: bytes, path: str, chance: random.Random) -> bytes:
    """Aliases of aliases, or the nesting of brackets."""
    if path.endswith((".json", ".csv")):
        return b"[" * 200_000
    return BOMB.encode() + content if chance.random() < 0.7 else content + b"\nx: " + b"- " * 100_000


def link(_: bytes, __: str, chance: random.Random) -> bytes:
    return chance.choice([b"/etc/passwd", b"../../x", b"params.yaml", b".git/config", b"/dev/zero"])


def structure(content: bytes, path: str, chance: random.Random) -> bytes:
    """Put another value or name anywhere, or take one away."""
    if path.endswith(".csv"):
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        row = chance.choice(rows)
        match chance.randrange(5):
            case 0:
                row[chance.randrange(len(row))] = chance.choice(rows)[chance.randrange(2)]
            case 1:
                row[0] = row[0].upper()
            case 2:
                rows.append(list(chance.choice(rows)))
            case 3:
                row[1:] = [row[-1]] * 2  # what the model said becomes the truth
            case _:
                row.append(chance.choice(row)) if chance.random() < 0.5 else row.pop()
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue().encode()
    parsed = yaml.safe_load(content)
    places = list(_places(parsed))
    holder, key = chance.choice(places)
    match chance.randrange(3):
        case 0:
            holder[key] = chance.choice(VALUES)
        case 1:
            del holder[key]
        case _ if isinstance(holder, dict):
            holder[chance.choice(["x", "wdir", "foreach", "md5", "path", "a\nb", "frozen"])] = holder.pop(key)
        case _:
            holder.insert(key, chance.choice(VALUES))
    if path.endswith(".json"):
        return json.dumps(parsed, indent=2).encode() + b"\n"
    return str(yaml.safe_dump(parsed, sort_keys=False, allow_unicode=True)).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each holder and key or index in a parsed document."""
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, below in pairs:
        yield value, key
        yield from _places(below)


Mutation = Callable[[bytes, str, random.Random], bytes]
MUTATIONS: list[tuple[str, Mutation]] = [
    (mutate.__name__, mutate)
    for mutate in (flip_bytes, flip_digit, insert, replace_text, lines, truncate, bomb, link, structure, structure)
]


def commit_all(cases: list[Case]) -> list[str]:
    """A commit of each case on top of HEAD, in one process."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    lock = Path("dvc.lock").read_text(encoding="utf-8")
    stream = io.BytesIO()
    for number, case in enumerate(cases):
        files = {case.path: (case.mode, case.content)}
        if case.recorded:
            md5 = hashlib.md5(case.content).hexdigest()
            forged = re.sub(rf"(- path: {case.path}\n      hash: md5\n      md5: )\w+", rf"\g<1>{md5}", lock)
            files["dvc.lock"] = ("100644", forged.encode())
        stream.write(f"commit refs/fuzz/{number}\ncommitter a <a@localhost> 0 +0000\ndata 1\nx\nfrom {head}\n".encode())
        for path, (mode, content) in files.items():
            stream.write(f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content + b"\n")
    subprocess.run(["git", "fast-import", "--quiet", "--force"], input=stream.getvalue(), check=True)
    shown = ["git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/fuzz/"]
    pairs = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split("\n")
    found = dict(pair.split(" ") for pair in pairs if pair)
    return [found[f"refs/fuzz/{number}"] for number in range(len(cases))]


# --- judgement -------------------------------------------------------------------------------------------------------


def preload() -> None:
    """Import what a comparison needs, and open the working tree's own project, so that forks need not."""
    import review.__main__
    import review.charts
    import review.diff
    import review.store
    import review.thumbnails

    review.store.repository()
    review.store.default_remote()


def judge(commit: str) -> tuple[str, float, int, str]:
    """What becomes of a commit, seconds, the largest resident memory in bytes, and what is said."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            _compare(commit, output.fileno())
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - started
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    memory = usage.ru_maxrss * 1024
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        return "slow", seconds, memory, said[-3000:]
    if memory > BYTES:
        return "large", seconds, memory, said[-3000:]
    if "Traceback (most recent call last)" in said or code not in (0, 1) or ("error: " in said) != (code == 1):
        return "traceback", seconds, memory, said[-3000:]
    return ("refused" if code else "passed"), seconds, memory, said[:3000]


def _compare(commit: str, output: int) -> None:
    """In the child: `python -m review diff HEAD <commit> --gate --html FILE`; never returns."""
    from review.__main__ import main as review_main
    from stages.common.errors import run_main

    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["review", "diff", "HEAD", commit, "--gate", "--html", ".dvc/tmp/fuzz.html"]
    code = 70
    try:
        run_main(review_main)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def means_the_same(case: Case) -> bool:
    """Whether a mutated file, which the gate let in, says what it said."""
    try:
        return _means_the_same(case)
    except Exception:  # a file that this plain reader cannot read is none to let in
        return False


def _means_the_same(case: Case) -> bool:
    original = Path(case.path).read_bytes()
    if case.mode != "100644":
        return False
    if case.path in RECORDED and case.recorded:
        return bool(_claim(case.path, original) == _claim(case.path, case.content))
    if case.path not in MEANINGS:
        return original == case.content
    meaning = MEANINGS[case.path]
    before, after = (meaning(yaml.safe_load(content)) for content in (original, case.content))
    return bool(before == after)


def _claim(path: str, content: bytes) -> Any:
    if path == METRICS:
        figures = json.loads(content)
        return round(figures["accuracy"], 5), figures["images"]
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    classes = sorted((row["image"], row["actual"]) for row in rows)
    return classes, sum(row["actual"] == row["predicted"] for row in rows)


def _lock(content: Any) -> Any:
    return {
        name: [stage["cmd"], stage.get("params")]
        + [sorted((entry["path"], entry.get("md5")) for entry in stage.get(kind, [])) for kind in ("deps", "outs")]
        for name, stage in content["stages"].items()
    }


def _declared(content: Any) -> Any:
    def names(entries: list[Any]) -> list[str]:
        return sorted(str(entry) if isinstance(entry, str) else str(next(iter(entry))) for entry in entries)

    def params(entries: list[Any]) -> list[str]:
        return sorted({json.dumps(entry, sort_keys=True) for entry in entries})

    return {
        name: [
            stage["cmd"],
            sorted(stage.get("deps", [])),
            params(stage.get("params", [])),
            names([*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]),
        ]
        for name, stage in content["stages"].items()
    }


def _recorded_params(content: Any) -> Any:
    lock = yaml.safe_load(Path("dvc.lock").read_bytes())
    keys = {key for stage in lock["stages"].values() for key in stage.get("params", {}).get("params.yaml", {})}
    return {key: content.get(key) for key in [*keys, "launcher"]}


MEANINGS: dict[str, Callable[[Any], Any]] = {
    "dvc.lock": _lock,
    "dvc.yaml": _declared,
    "data.dvc": lambda content: [(out["path"], out["md5"]) for out in content["outs"]],
    "params.yaml": _recorded_params,
}


if __name__ == "__main__":
    main()
