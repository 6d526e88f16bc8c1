"""`dvc repro` without DVC's advice after it, `git add dvc.lock` or core.autostage: what `make repro` runs.

A result is dvc.lock together with metrics/, plots/ and models/README.md. Either advice puts dvc.lock alone into Git's
index, and the next `git commit` would claim a result whose metrics are another's.
"""

import logging
import sys

from dvc.cli import main

if __name__ == "__main__":
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    sys.exit(main(["repro", *sys.argv[1:]]))
