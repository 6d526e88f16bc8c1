"""Stages apart from those of dvc.yaml, which `make claim` and `make export` run once the model is chosen."""

import subprocess
import sys
from collections.abc import Callable

from review import git
from stages.common import escape
from stages.common.errors import UserError


def make(file: str, is_fresh: Callable[[], bool], failure: str, *first: str) -> None:
    """Run the stage of `file` until the workspace has its result, as `is_fresh` says. `first`: what `dvc repro` is
    asked for at first. UserError with `failure` where a stage fails."""
    # The stages before it are up to date, or their outputs are nowhere and have to be made again.
    _repro(failure, *first)
    if not is_fresh():
        # What DVC's run cache has may be what `dvc commit` recorded, and not what the stage wrote.
        _repro(failure, "--force", "--single-item", file)


def say_what_to_commit() -> None:
    """Print what the stage has changed of what Git tracks."""
    changed = git.changed_files()
    if changed:
        print(escape.message(f"{'to commit':18}`git add . && git commit`: {', '.join(changed)}"))


def _repro(failure: str, *arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "scripts.repro", *arguments]).returncode:
        raise UserError(failure)
