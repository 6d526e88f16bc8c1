"""`python -m review experiments`: the experiments of this clone in a table that fits a terminal.

`dvc exp show` has every figure, in 2,000 columns. Here are those by which one chooses: val, and never test.
"""

import shutil
from typing import Any, NamedTuple

from review import git
from review.lock import hashes
from review.revision import Missing, Revision
from review.seeds import METRICS, require_val
from stages.common import escape

RUN = "metrics/run.json"
OTHER_VAL = "other val images"
_VAL = ("prepared/val-images.npy", "prepared/val-labels.npy")
_HEADER = ("experiment", "val accuracy", "95 % interval", "val loss", "seconds", "changed from HEAD")
# Columns, where the output is no terminal.
_WIDTH = 100
_LONGEST_NAME = 24
_LEAST_CHANGES = 12


class Experiment(NamedTuple):
    """What a run is called, its figures on val, its seconds, and what of its inputs is not as in HEAD."""

    name: str
    accuracy: float
    interval: tuple[float, float]
    loss: float
    seconds: float
    changes: list[str]


def print_experiments(*_: object) -> None:
    """Print HEAD, then the experiments in this clone, best val accuracy first; then those without a result."""
    head = Revision.named("HEAD")
    found, without = [], []
    for reference, commit in git.experiments().items():
        experiment = Revision(reference.split("/")[-1], commit)
        try:
            found.append(read(experiment, head))
        except Missing as missing:
            without.append(f"{experiment.name}: no result: {missing}")
    if not found and not without:
        print("No experiments in this clone. `dvc exp run -S lr=0.05` runs one.")
        return
    found.sort(key=lambda one: (-one.accuracy, one.loss, one.name))
    width = max(_WIDTH // 2, shutil.get_terminal_size((_WIDTH, 24)).columns)
    try:
        found.insert(0, read(head, head))
    except Missing as missing:
        without.insert(0, f"HEAD: no result: {missing}")
    for line in [*table(found, width), *without]:
        print(escape.terminal(line))


def read(run: Revision, head: Revision) -> Experiment:
    """The figures of a run, and what differs from `head`. Raises Missing."""
    require_val(run)
    accuracy, low, high, loss = run.numbers(METRICS, ("accuracy", "accuracy_low", "accuracy_high", "loss"))
    seconds = run.number(RUN, "total_seconds")
    return Experiment(run.name, accuracy, (low, high), loss, seconds, changes(run, head))


def changes(run: Revision, head: Revision) -> list[str]:
    """Params that are not as in `head`, as name=value; and first, that the val images are others, or the code is."""
    try:
        found, params = marks(run, head), head.params
    except Missing:
        return []
    return [f"[{mark}]" for mark in found] + [
        f"{name}={_value(run.params.get(name))}"
        for name in [*run.params, *(name for name in params if name not in run.params)]
        if run.params.get(name) != params.get(name)
    ]


def marks(run: Revision, head: Revision) -> list[str]:
    """Why a run's figures are not comparable with those of `head`, or not by its params alone. Raises Missing."""
    deps, own = (hashes(one.lock, "deps") for one in (run, head))
    found = []
    if any(deps.get(path) != own.get(path) for path in _VAL):
        found.append(OTHER_VAL)
    if any(deps.get(path) != own.get(path) for path in deps.keys() | own.keys() if path.startswith("stages")):
        found.append("other code")
    return found


def table(runs: list[Experiment], width: int) -> list[str]:
    """Lines of `width` columns at most. A name or a list of changes that is longer ends with …"""
    longest = max([len(_HEADER[0]), *(len(escape.terminal(run.name)) for run in runs)])
    name_width = min(longest, _LONGEST_NAME)
    rows = [
        (
            _cut(escape.terminal(run.name), name_width),
            f"{run.accuracy:.4f}",
            f"{run.interval[0]:.4f}–{run.interval[1]:.4f}",
            f"{run.loss:.4f}",
            f"{run.seconds:.0f}",
            escape.terminal(", ".join(run.changes)) or "—",
        )
        for run in runs
    ]
    columns = [_HEADER, *rows]
    widths = [max(len(row[place]) for row in columns) for place in range(len(_HEADER) - 1)]
    rest = max(_LEAST_CHANGES, width - sum(widths) - 2 * len(widths))
    lines = []
    for row in columns:
        name, *figures = (
            cell.ljust(size) if place == 0 else cell.rjust(size)
            for place, (cell, size) in enumerate(zip(row[:-1], widths, strict=True))
        )
        lines.append("  ".join([name, *figures, _cut(row[-1], rest)]).rstrip())
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _value(value: Any) -> str:
    return "none" if value is None else str(value)
