"""Bring the committed results that DVC keeps, such as weights, from the cache or the remote: before `make repro` runs.

Only what is missing in the workspace, and only where dvc.lock is the result of its code, params and data: then nothing
has to be run. Where nobody pushed them, the stages make them again.
"""

from pathlib import Path

from review import git
from review.freshness import findings
from review.revision import WORKSPACE, Missing, Revision
from stages.common.errors import run_main
from storage.pull import AbsentError, pull


def main() -> None:
    workspace = Revision.named(WORKSPACE)
    try:
        missing = missing_outputs(workspace)
        if not missing or findings(workspace):
            return
    except Missing:
        return  # nothing was ever run
    try:
        pull(Path(), missing)
        print(f"results: {', '.join(missing)}: there, from the cache or the remote")
    except AbsentError as absent:
        lacking = ", ".join(absent.paths)
        if absent.refusal:
            print(f"results: the remote cannot be read ({absent.refusal}); the stages make {lacking}")
        else:
            print(f"results: nobody has pushed {lacking} yet, so the stages make them")


def missing_outputs(workspace: Revision) -> list[str]:
    """Outputs of dvc.lock that DVC caches and the workspace lacks. Raises Missing without a dvc.lock."""
    outs = [out["path"] for stage in workspace.lock["stages"].values() for out in stage.get("outs", [])]
    tracked = git.tracked()
    return [path for path in outs if path not in tracked and not Path(path).exists()]


if __name__ == "__main__":
    run_main(main)
