"""Measure the committed model on the test split: `make claim`, once it is chosen.

A claim is of a commit, so that nobody claims an experiment, looks at the figure, and goes on choosing without a trace:
what is not committed is refused, and so is a result that is not that of the commit's code, params and data.
"""

import argparse
import subprocess
import sys

from review import chosen, claim, git
from review.freshness import findings
from review.revision import CLAIM, WORKSPACE, Missing, Revision
from review.seeds import METRICS
from stages.common import escape
from stages.common.errors import UserError, listed, run_main


def main() -> None:
    argparse.ArgumentParser(prog="python -m scripts.claim", description=__doc__).parse_args()
    require_committed()
    # The stages before it are up to date, or their outputs are nowhere and have to be made again.
    run()
    if not is_fresh():
        # What DVC's run cache has may be what `dvc commit` recorded, and not what the stage measured.
        run("--force", "--single-item", f"{CLAIM}/dvc.yaml")
    workspace = Revision.named(WORKSPACE)
    print(f"\n{'test accuracy':18}{claim.said(workspace)}")
    print(f"{'val accuracy':18}{claim.accuracy_text(workspace.json(METRICS))}")
    print(f"{'chosen from':18}{chosen.record(workspace)}")
    changed = git.changed_files()
    if changed:
        print(escape.message(f"{'to commit':18}`git add . && git commit`: {', '.join(changed)}"))


def run(*arguments: str) -> None:
    """`dvc repro` with these arguments. UserError where it fails."""
    if subprocess.run([sys.executable, "-m", "scripts.repro", *arguments]).returncode:
        raise UserError(f"claim: the stages failed; see above. `git checkout {CLAIM}` restores what was there.")


def is_fresh() -> bool:
    """Whether the workspace has a claim of its model."""
    try:
        claim.figures(Revision.named(WORKSPACE))
    except Missing:
        return False
    return True


def require_committed() -> None:
    """UserError where the workspace is not a commit with the result of its own code, params and data."""
    changed = [path for path in git.changed_files() if not path.startswith(f"{CLAIM}/")]
    if changed:
        raise UserError(
            f"claim: expected a committed result, as a claim is of a commit. Not committed:\n{listed(changed)}\n"
            "To claim for what is here, `git add . && git commit` first; `git checkout .` returns to the last commit."
        )
    stale = [finding.text for finding in findings(Revision.named("HEAD"))]
    if stale:
        raise UserError(
            f"claim: dvc.lock is not the result of HEAD's code, params and data:\n{listed(stale)}\n"
            "`make repro`, then `git add . && git commit`, then claim."
        )


if __name__ == "__main__":
    run_main(main)
