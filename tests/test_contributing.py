"""CONTRIBUTING.md is true: its commands, typed one after the other in a clone with a remote, get from branch to tag."""

import re
from pathlib import Path

from review.gate import KINDS
from tests.project import BIN, ROOT, run

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_command_works(reproduced_clone: Path, tmp_path: Path) -> None:
    run(["git", "clone", "--quiet", "--bare", reproduced_clone, tmp_path / "origin.git"], tmp_path)
    run(["cp", "--archive", reproduced_clone, tmp_path / "project"], tmp_path)
    run(["git", "remote", "set-url", "origin", tmp_path / "origin.git"], tmp_path / "project")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", TEXT, re.M | re.S))
    # A second seed is enough to see a spread, and the quick model of the tests is another one with half the lr.
    script = script.replace("N=3", "N=2").replace("lr=0.05", "lr=0.11")
    (tmp_path / "commands.sh").write_text(f"set -euxo pipefail\nsource {BIN}/activate\ngit fetch --quiet\n{script}")
    done = run(["bash", tmp_path / "commands.sh"], tmp_path / "project", timeout=600)
    assert "(n=2 seeds)" in done.stdout
    assert "this recipe against that recipe (seeds and test images)" in done.stdout
    assert "gate: passed" in done.stderr
    assert "lower-lr (" in done.stdout
    assert ": identical. 17 of 17 outputs have the same bytes." in done.stdout
    assert re.search(r"v1.0-resnet9-digits: test accuracy .*; over seeds 0\.\d+ ± 0\.\d+ \(n=2 seeds\)", done.stdout)
    assert done.stdout.count("seeds: queued 1; 1 at a time") == 2


def test_the_kinds_of_the_gate() -> None:
    table = re.findall(r"^\| ([a-z-]+) \|", TEXT, re.M)
    assert table[1:] == list(KINDS)
