"""What all stages share: how errors end, files, arithmetic, the reading of params.yaml.

Imported before any other module of `stages`, so it does what has to come before NumPy and PyTorch are imported.
"""

import importlib.util
import os
import sys

from stages.common import arithmetic

# A stage started by a Python other than the project's (a dvc installed elsewhere finds the system's) would end in a
# traceback about some package; say what is wrong instead. The service has onnxruntime, and no pydantic.
if not any(importlib.util.find_spec(package) for package in ("pydantic", "onnxruntime")):
    sys.exit(
        f"error: this Python ({sys.executable}) does not have the project's packages.\n"
        "Run `make install` once, then either call .venv/bin/dvc or `source .venv/bin/activate`."
    )

arithmetic.use_portable_numpy()
# How often a thread of OpenMP looks for work before it sleeps. The default, 300,000, is for cores of one's own. Seconds
# of training the sample on 2 cores, idle (12 epochs) and beside two busy processes (4 epochs), medians of 5 rounds:
# 300,000: 3.23 and 4.89; 10,000: 3.34 and 3.44; 4,000: 3.88 and 3.50; passive waiting: 7.29 and 2.77.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
