"""Export the model of the workspace as ONNX: `make export`.

An export is of a result: what dvc.lock does not name as the result of code, params and data here is refused, and never
trained again by the way.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from review import exported, git
from review.freshness import findings
from review.revision import EXPORT, WORKSPACE, Missing, Revision
from stages.common import escape
from stages.common.errors import UserError, listed, run_main
from stages.common.files import write_text

# What the stage is, and where it is while the project has an export.
STAGE, DECLARED = Path(EXPORT) / "stage.yaml", Path(EXPORT) / "dvc.yaml"


def main() -> None:
    argparse.ArgumentParser(prog="python -m scripts.export", description=__doc__).parse_args()
    stale = [finding.text for finding in findings(Revision.named(WORKSPACE))]
    if stale:
        raise UserError(
            f"export: dvc.lock is not the result of the code, params and data here:\n{listed(stale)}\n"
            "`make repro`, then export."
        )
    write_text(DECLARED, STAGE.read_text(encoding="utf-8"))
    try:
        # The stages before it are up to date, or their outputs are nowhere and have to be made again.
        run(str(DECLARED))
        if not is_fresh():
            # What DVC's run cache has may be what `dvc commit` recorded, and not what the stage wrote.
            run("--force", "--single-item", str(DECLARED))
    finally:
        if not DECLARED.with_name("dvc.lock").exists():
            DECLARED.unlink()
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
