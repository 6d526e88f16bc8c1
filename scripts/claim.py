"""Measure the committed model on the test split: `make claim`, once it is chosen.

A claim is of a commit, so that nobody claims an experiment, looks at the figure, and goes on choosing without a trace:
what is not committed is refused, and so is a result that is not that of the commit's code, params and data.
"""

import argparse

from review import chosen, claim, git
from review.freshness import findings
from review.revision import CLAIM, WORKSPACE, Missing, Revision
from review.seeds import METRICS
from scripts import apart
from stages.common.errors import UserError, listed, run_main


def main() -> None:
    argparse.ArgumentParser(prog="python -m scripts.claim", description=__doc__).parse_args()
    require_committed()
    failure = f"claim: the stages failed; see above. `git checkout {CLAIM}` restores what was there."
    apart.make(f"{CLAIM}/dvc.yaml", is_fresh, failure)
    workspace = Revision.named(WORKSPACE)
    print(f"\n{'test accuracy':18}{claim.said(workspace)}")
    print(f"{'val accuracy':18}{claim.accuracy_text(workspace.json(METRICS))}")
    print(f"{'chosen from':18}{chosen.record(workspace)}")
    apart.say_what_to_commit()


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
