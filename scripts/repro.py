"""`dvc repro` without DVC's advice after it, `git add dvc.lock` or core.autostage: what `make repro` runs.

A result is dvc.lock together with metrics/, plots/ and models/README.md. Either advice puts dvc.lock alone into Git's
index, and the next `git commit` would claim a result whose metrics are another's.
"""

import logging
import sys
from pathlib import Path

from dvc.cli import main

from review.git import require_top_level
from stages.common.corrections import FILE
from stages.common.errors import UserError, run_main
from storage.config import require_safe


def check() -> None:
    require_top_level()
    require_safe(Path())
    # Where a dep is missing, DVC removes the outputs that are there, and then fails.
    if not FILE.exists():
        raise UserError(f"{FILE}: no such file, which prepare depends on. `git checkout {FILE}` brings it back.")


if __name__ == "__main__":
    run_main(check)
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    sys.exit(main(["repro", *sys.argv[1:]]))
