"""The stages that `dvc repro` runs, each as `python -m stages.<name>`, and the modules that they share."""

import importlib.util
import sys

# A stage started by a Python other than the project's (a dvc installed elsewhere finds the system's) would end in a
# traceback about some package; say what is wrong instead.
if importlib.util.find_spec("pydantic") is None:
    sys.exit(
        f"error: this Python ({sys.executable}) does not have the project's packages.\n"
        "Run `make install` once, then either call .venv/bin/dvc or `source .venv/bin/activate`."
    )
