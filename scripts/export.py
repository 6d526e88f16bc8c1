"""Export the model of the workspace as ONNX: `make export`.

An export is of a result: what dvc.lock does not name as the result of code, params and data here is refused, and never
trained again by the way.
"""

import argparse
from pathlib import Path

from review import exported
from review.freshness import findings
from review.revision import EXPORT, WORKSPACE, Missing, Revision
from scripts import apart
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
        failure = "export: the stage failed; see above. Nothing of an earlier export is left."
        apart.make(str(DECLARED), is_fresh, failure, str(DECLARED))
    finally:
        if not DECLARED.with_name("dvc.lock").exists():
            DECLARED.unlink()
    figures = Revision.named(WORKSPACE).json(exported.FIGURES)
    print(f"\n{'exported':18}{exported.MODEL}")
    print(
        f"{'parity':18}{figures['changed']} answers changed on {figures['images']} test images, each in "
        f"{len(figures['batches'])} sizes of the batch"
    )
    apart.say_what_to_commit()


def is_fresh() -> bool:
    """Whether the workspace has an export of its model."""
    try:
        return exported.fresh_lock(Revision.named(WORKSPACE)) is not None
    except Missing:
        return False


if __name__ == "__main__":
    run_main(main)
