"""OpenMP's threads share the cores, unless the user has said otherwise."""

import subprocess
import sys

import pytest

from tests.project import ROOT, user_environment


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["default", "spin count", "wait policy"],
)
def test_how_long_threads_look_for_work(given: dict[str, str], expected: str) -> None:
    clean = {name: value for name, value in user_environment().items() if not name.startswith(("GOMP_", "OMP_"))}
    program = "import os, sys, stages; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=clean | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [expected, "False"]
