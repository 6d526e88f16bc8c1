"""A process that has only the packages of the service, for tests."""

import tomllib

from packaging.requirements import Requirement

from tests.project import ROOT

MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}


def packages_left_out() -> set[str]:
    """Modules of the packages that the pipeline has and the service has not."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    names = {
        group: {Requirement(line).name for line in groups[group]} for group in ("prepare", "train", "workflow", "serve")
    }
    left_out = (names["prepare"] | names["train"] | names["workflow"]) - names["serve"]
    return {MODULES.get(name, name) for name in left_out}


def without(packages: set[str]) -> str:
    """A line of Python after which none of the packages can be imported."""
    return f"import sys; sys.modules.update(dict.fromkeys({sorted(packages)!r})); "
