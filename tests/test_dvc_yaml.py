"""dvc.yaml lists all that a stage reads, its modules, its params, its packages' pins: DVC cannot know otherwise."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import BaseModel

from stages.params import EvaluateParams, Params, PrepareParams, TrainParams
from tests.project import ROOT

PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, Any] = PIPELINE["stages"]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCHEMAS: dict[str, type[BaseModel]] = {"prepare": PrepareParams, "train": TrainParams, "evaluate": EvaluateParams}


def imported_names(path: Path) -> set[str]:
    """Every module that a file may import, at its top or inside a function, by its full name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, which this test does not follow"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_closure(root: Path, module: str) -> tuple[set[str], set[str]]:
    """The project's files that `module` imports, directly or not, and the top-level packages that these import."""
    files: set[str] = set()
    packages: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            stem = "/".join(parts[:length])
            for path in (f"{stem}.py", f"{stem}/__init__.py"):
                if (root / path).is_file() and path not in files:
                    files.add(path)
                    waiting += imported_names(root / path)
        if not (root / parts[0]).is_dir() and parts[0] not in sys.stdlib_module_names:
            packages.add(parts[0])
    return files, packages


def params_of(stage: dict[str, Any]) -> tuple[set[str], list[str]]:
    """The names that a stage lists of params.yaml, and those of pyproject.toml."""
    names = {entry for entry in stage["params"] if isinstance(entry, str)}
    (pins,) = (entry["pyproject.toml"] for entry in stage["params"] if isinstance(entry, dict))
    return names, pins


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_import_closure(name: str) -> None:
    """A changed module that is not among the deps would leave the stage skipped, without a warning."""
    files, _ = import_closure(ROOT, f"stages.{name}")
    assert {path for path in STAGES[name]["deps"] if path.endswith(".py")} == files


def test_the_closure_follows_every_form_of_import(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    for module, text in {
        "__init__": "",
        "start": "from pack import a\nimport pack.b as x\ndef late():\n from pack.c import thing\n import json, torch",
        "a": "",
        "b": "from pack import start",
        "c": "from pack.d import *",
        "d": "import numpy.linalg",
        "unused": "",
    }.items():
        (package / f"{module}.py").write_text(text)
    files, packages = import_closure(tmp_path, "pack.start")
    assert files == {f"pack/{name}.py" for name in ("__init__", "start", "a", "b", "c", "d")}
    assert packages == {"numpy", "torch"}


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_the_stage_reads(name: str) -> None:
    """A stage is given the keys of its schema and no others, so dvc.yaml must list exactly these."""
    names, pins = params_of(STAGES[name])
    assert names == set(SCHEMAS[name].model_fields)
    assert pins == [f"dependency-groups.{name}"]
    source = (ROOT / "stages" / f"{name}.py").read_text()
    assert re.findall(r"\bload\((\w+)\)", source) == [SCHEMAS[name].__name__]


def test_every_param_has_a_reader() -> None:
    """No knob of params.yaml is without effect: a stage or a command of dvc.yaml reads it."""
    templated = set(re.findall(r"\$\{(\w+)\}", (ROOT / "dvc.yaml").read_text()))
    read = {name for stage in STAGES.values() for name in params_of(stage)[0]}
    assert read | templated == set(Params.model_fields)


@pytest.mark.parametrize("name", STAGES)
def test_pins_cover_the_packages_that_decide_numbers(name: str) -> None:
    """Every package that a stage may import is in its group, or in the group of those without a say in any number."""
    _, packages = import_closure(ROOT, f"stages.{name}")
    listed = [*PYPROJECT["dependency-groups"][name], *PYPROJECT["dependency-groups"]["workflow"]]
    pinned = {Requirement(line).name.lower() for line in listed}
    distributions = importlib.metadata.packages_distributions()
    parts_of_pydantic = {"pydantic_core", "annotated_types"}
    owners = {package: {name.lower() for name in distributions[package]} for package in packages - parts_of_pydantic}
    assert {package for package, names in owners.items() if not names & pinned} == set()


def test_pins_are_exact_and_agree() -> None:
    """One version of a package in all groups, by `==`, and the same in requirements.lock, or in the notebook's own."""
    versions: dict[str, set[str]] = {}
    for lines in PYPROJECT["dependency-groups"].values():
        for line in lines:
            requirement = Requirement(line)
            assert str(requirement.specifier).startswith("=="), line
            versions.setdefault(requirement.name.lower(), set()).add(str(requirement.specifier))
    lock = "".join((ROOT / name).read_text() for name in ("requirements.lock", "requirements-jupyter.lock"))
    for name, pins in versions.items():
        (pin,) = pins
        assert re.search(rf"^{re.escape(name)}(\[.*\])?{re.escape(pin)} \\$", lock, re.M), (
            f"{name}{pin}: run `make lock`"
        )
    assert "http://" not in lock
    assert "https://" not in lock


def test_results_are_in_git_and_weights_are_not() -> None:
    """Metrics and plots are `cache: false`; what is large is in DVC's cache."""
    for stage in STAGES.values():
        for kind in ("metrics", "plots"):
            assert all(options["cache"] is False for entry in stage.get(kind, []) for options in entry.values())
    cached = {entry for stage in STAGES.values() for entry in stage["outs"] if isinstance(entry, str)}
    assert cached == {
        "prepared",
        "models/model.json",
        "models/model.safetensors",
        "predictions.csv",
        "reports/report.html",
    }


def test_only_evaluate_reads_the_test_split() -> None:
    readers = {name for name, stage in STAGES.items() if any("prepared/test-" in dep for dep in stage["deps"])}
    assert readers == {"evaluate"}
    assert "prepared" not in STAGES["train"]["deps"]
    assert '"test"' not in (ROOT / "stages" / "train.py").read_text()


def test_artifact_names_the_folder_of_the_weights() -> None:
    assert f"{PIPELINE['artifacts']['classifier']['path']}/model.safetensors" in STAGES["train"]["outs"]
