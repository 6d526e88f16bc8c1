"""Work on all cores: no process outlives the first."""

import os
import signal
import subprocess
import sys

import pytest

from tests.project import ROOT, user_environment


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends them, as Linux alone can")
def test_the_others_end_with_the_first() -> None:
    """Killed, it cannot end them; they have its standard output, whose end comes when the last one is gone."""
    program = """
import os
from stages.prepare.processes import results
def work(number):
    os.write(1, b"begun\\n")
    os.read(os.pipe()[0], 1)
list(results(work, iter(range(9)), print, "", 2, "test"))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=user_environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if line == "begun\n":
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
