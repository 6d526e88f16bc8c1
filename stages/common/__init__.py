"""What all stages share: how errors end, files, arithmetic, the reading of params.yaml.

Imported before any other module of `stages`, so it does what has to come before NumPy and PyTorch are imported.
"""

import importlib.util
import os
import sys

from stages.common import arithmetic

# A stage started by a Python other than the project's (a dvc installed elsewhere finds the system's) would end in a
# traceback about some package; say what is wrong instead.
if importlib.util.find_spec("pydantic") is None:
    sys.exit(
        f"error: this Python ({sys.executable}) does not have the project's packages.\n"
        "Run `make install` once, then either call .venv/bin/dvc or `source .venv/bin/activate`."
    )

arithmetic.hold_numpy()
# How often a thread of OpenMP looks for work before it sleeps. Its default, 300,000, is for cores of one's own: where
# others use them too, threads that only wait take most of the time.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
