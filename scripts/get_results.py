"""Bring the committed results that DVC keeps, such as weights, from the cache or the remote: before `make repro` runs.

Only what is missing in the workspace, and only where dvc.lock is the result of its code, params and data: then nothing
has to be run. Where nobody pushed them, the stages make them again.
"""

from pathlib import Path

from review import git
from review.exported import export_findings
from review.freshness import Finding, findings
from review.lock import Lock, hashes
from review.revision import WORKSPACE, Missing, Revision
from stages.common.errors import run_main
from storage.pull import AbsentError, pull


def main() -> None:
    workspace = Revision.named(WORKSPACE)
    try:
        bring(missing_outputs(workspace.lock), findings(workspace), "the stages make")
        if workspace.export_lock is not None:
            bring(missing_outputs(workspace.export_lock), export_findings(workspace), "`make export` makes")
    except Missing:
        return  # nothing was ever run


def bring(missing: list[str], stale: list[Finding], makers: str) -> None:
    """Get outputs from the cache or the remote, unless they are stale, and say it; `makers`: what makes them
    otherwise."""
    if not missing or stale:
        return
    try:
        pull(Path(), missing)
        print(f"results: {', '.join(missing)}: there, from the cache or the remote")
    except AbsentError as absent:
        lacking = ", ".join(absent.paths)
        if absent.refusal:
            print(f"results: the remote cannot be read ({absent.refusal}); {makers} {lacking}")
        else:
            print(f"results: nobody has pushed {lacking} yet, so {makers} them")


def missing_outputs(lock: Lock) -> list[str]:
    """Outputs of a lock that DVC caches and the workspace lacks."""
    tracked = git.tracked()
    return [path for path in hashes(lock, "outs") if path not in tracked and not Path(path).exists()]


if __name__ == "__main__":
    run_main(main)
