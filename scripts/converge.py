"""Whether training still learns: `make converge`.

Runs all three stages on the embedded sample, with configs/digits.yaml, in a folder of its own, so that it takes seconds
whatever the project's own data are; what it expects is far below what that recipe reaches and far above chance.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.sample import write_sample
from stages.common.errors import UserError, run_main

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "configs" / "digits.yaml"
EXPECTED = 0.95


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m scripts.converge", description="Train on the embedded sample; fail where it does not learn."
    ).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample(folder / "data")
        shutil.copy(RECIPE, folder / "params.yaml")
        for stage in ("prepare", "train", "evaluate"):
            command = [sys.executable, "-m", f"stages.{stage}"]
            if subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode:
                raise UserError(f"converge: {stage} failed; its message is above.")
        accuracy = json.loads((folder / "metrics/evaluate.json").read_text())["accuracy"]
    if accuracy < EXPECTED:
        raise UserError(
            f"converge: expected a val accuracy of {EXPECTED} or more on the sample, got {accuracy:.4f}. A change of "
            "the code since the last green run broke training."
        )
    print(f"converge: val accuracy {accuracy:.4f} on the sample, {EXPECTED} or more expected")


if __name__ == "__main__":
    run_main(main)
