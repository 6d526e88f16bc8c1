"""`make experiments`: a table within the width of a terminal, whatever the experiments are called."""

import re
from collections.abc import Callable
from pathlib import Path

from review.experiments import Experiment, table
from tests.project import BIN, run


def experiment(name: str, accuracy: float, *changes: str) -> Experiment:
    return Experiment(name, accuracy, (0.5, 1.0), 0.25, 12.3, [*changes])


def test_what_is_too_long_is_cut_visibly() -> None:
    long = experiment("a-name-of-more-than-twenty-four", 0.75, *(f"param{number}={number}" for number in range(20)))
    header, first, second = table([long, experiment("b\x1b[2J", 0.5)], 100)
    assert header.split("  ")[0] == "experiment"
    assert re.match(r"a-name-of-more-than-twe… +0\.7500  0\.5000–1\.0000 +0\.2500 +12  param0=0, param1=1,", first)
    assert first.endswith("…")
    assert len(first) == 100
    assert second.startswith("b\\x1b[2J ")
    assert second.endswith("—")


def test_experiments_of_a_clone(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("experiments")
    assert "`dvc exp run -S lr=0.05` runs one" in run("make experiments", folder).stdout
    run([BIN / "dvc", "exp", "run", "--temp", "--quiet", "--name", "other", "--set-param", "lr=0.01"], folder)
    lines = run("make experiments", folder).stdout.splitlines()
    assert re.match(r"HEAD +0\.\d{4}  0\.\d{4}–[01]\.\d{4} +\d\.\d{4} +\d+  —$", lines[1])
    assert re.match(r"other +0\.\d{4}  0\.\d{4}–[01]\.\d{4} +\d\.\d{4} +\d+  lr=0\.01$", lines[2])
    assert all(len(line) <= 100 for line in lines[:3])
