"""Export the model of the workspace as ONNX: `make export`.

An export is of a result: what dvc.lock does not name as the result of code, params and data here is refused, and never
trained again by the way.
"""

import argparse
import subprocess
import sys

from review import exported, git
from review.freshness import findings
from review.revision import EXPORT, WORKSPACE, Missing, Revision
from stages.common import escape
from stages.common.errors import UserError, listed, run_main


def main() -> None:
    argparse.ArgumentParser(prog="python -m scripts.export", description=__doc__).parse_args()
    stale = [finding.text for finding in findings(Revision.named(WORKSPACE))]
    if stale:
        raise UserError(
            f"export: dvc.lock is not the result of the code, params and data here:\n{listed(stale)}\n"
            "`make repro`, then export."
        )
    # The stages before it are up to date, or their outputs are nowhere and have to be made again.
    run(f"{EXPORT}/dvc.yaml")
    if not is_fresh():
        # What DVC's run cache has may be what `dvc commit` recorded, and not what the stage wrote.
        run("--force", "--single-item", f"{EXPORT}/dvc.yaml")
    figures = Revision.named(WORKSPACE).json(exported.FIGURES)
    print(f"\n{'exported':18}{exported.MODEL}")
    print(
        f"{'parity':18}{figures['changed']} answers changed on {figures['images']} test images, each in "
        f"{len(figures['batches'])} sizes of the batch"
    )
    changed = git.changed_files()
    if changed:
        print(escape.message(f"{'to commit':18}`git add . && git commit`: {', '.join(changed)}"))


def run(*arguments: str) -> None:
    """`dvc repro` with these arguments. UserError where it fails."""
    if subprocess.run([sys.executable, "-m", "scripts.repro", *arguments]).returncode:
        raise UserError("export: the stage failed; see above. Nothing of an earlier export is left.")


def is_fresh() -> bool:
    """Whether the workspace has an export of its model."""
    try:
        return exported.fresh_lock(Revision.named(WORKSPACE)) is not None
    except Missing:
        return False


if __name__ == "__main__":
    run_main(main)
