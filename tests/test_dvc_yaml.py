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

from review.imports import Closure, closure, unlisted_modules
from stages.common.dependencies import is_schema
from stages.evaluate.params import EvaluateParams
from stages.export.params import ExportParams
from stages.params import Params
from stages.prepare.params import PrepareParams
from stages.train.params import LaunchParams, TrainParams
from storage.pull import PLACES
from tests.project import ROOT

PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
CLAIM: dict[str, Any] = yaml.safe_load((ROOT / "claim/dvc.yaml").read_text())["stages"]
EXPORT: dict[str, Any] = yaml.safe_load((ROOT / "export/stage.yaml").read_text())["stages"]
STAGES: dict[str, Any] = PIPELINE["stages"] | CLAIM | EXPORT
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCHEMAS: dict[str, list[type[BaseModel]]] = {
    "prepare": [PrepareParams],
    "train": [TrainParams, LaunchParams],
    "evaluate": [EvaluateParams],
    "claim": [EvaluateParams],
    "export": [ExportParams],
}
# By stage, the module that it starts, and its room of stages/.
MODULES = {
    "prepare": "stages.prepare.__main__",
    "train": "stages.train.__main__",
    "evaluate": "stages.evaluate.__main__",
    "claim": "stages.evaluate.claim",
    "export": "stages.export.__main__",
}
ROOMS = {name: module.split(".")[1] for name, module in MODULES.items()}


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


def import_closure(root: Path, module: str) -> Closure:
    """What `module` of the project in `root` imports, directly or not."""
    return closure({module: "the test"}, lambda path: (root / path).read_bytes() if (root / path).is_file() else None)


def params_of(stage: dict[str, Any]) -> tuple[set[str], list[str]]:
    """The names that a stage lists of params.yaml, and those of pyproject.toml."""
    names = {entry for entry in stage["params"] if isinstance(entry, str)}
    (pins,) = (entry["pyproject.toml"] for entry in stage["params"] if isinstance(entry, dict))
    return names, pins


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_rooms_of_the_import_closure(name: str) -> None:
    """A changed module that is not below one of the deps would leave the stage skipped, without a warning."""
    used = import_closure(ROOT, MODULES[name])
    assert list(unlisted_modules(used, STAGES[name])) == []
    files = {path for path, source in used.sources.items() if not is_schema(path) and not source.is_plain}
    rooms = {path.rpartition("/")[0] for path in files}
    assert {path for path in STAGES[name]["deps"] if path.startswith("stages")} == rooms


def test_what_no_stage_lists_decides_nothing() -> None:
    """stages/__init__.py, which every stage imports, does no more than import what they list."""
    docstring, statement = ast.parse((ROOT / "stages/__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(statement) == "import stages.common"


def test_rooms_import_downwards() -> None:
    """common ← model ← train and evaluate, common ← prepare, common ← onnx, model and onnx ← export, model, prepare and
    predict ← look; and nothing of what people and CI run on the results."""
    below: dict[str, set[str]] = {
        "common": set(),
        "prepare": {"common"},
        "model": {"common"},
        "train": {"common", "model"},
        "evaluate": {"common", "model"},
        "onnx": {"common"},
        "export": {"common", "model", "onnx"},
        "look": {"common", "model", "predict", "prepare"},
    }
    for room, allowed in below.items():
        for path in (ROOT / "stages" / room).glob("*.py"):
            used = {name.split(".")[1] for name in imported_names(path) if name.startswith("stages.")}
            assert used <= allowed | {room}, path
    for path in (ROOT / "stages").rglob("*.py"):
        assert not any(name.split(".")[0] in ("review", "scripts", "storage") for name in imported_names(path)), path
    for path in (ROOT / "storage").glob("*.py"):
        ours = {name for name in imported_names(path) if name.split(".")[0] in ("review", "scripts", "stages")}
        assert all(name.startswith("stages.common.") for name in ours), path


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_the_stage_reads(name: str) -> None:
    """A stage is given the keys of its schema and no others, so dvc.yaml must list exactly these."""
    names, pins = params_of(STAGES[name])
    assert names == {key for schema in SCHEMAS[name] for key in schema.model_fields}
    assert pins == [f"dependency-groups.{ROOMS[name]}"]
    modules = [ROOT / "stages" / ROOMS[name] / f"{module}.py" for module in ("__main__", "launch", "evaluation")]
    read = [found for path in modules if path.exists() for found in re.findall(r"\bload\((\w+)\)", path.read_text())]
    assert read == [schema.__name__ for schema in SCHEMAS[name]]


def test_every_param_has_a_reader() -> None:
    """No knob of params.yaml is without effect; and none is part of a command, which a shell reads."""
    assert {name for stage in STAGES.values() for name in params_of(stage)[0]} == set(Params.model_fields)
    assert not any("$" in stage["cmd"] for stage in STAGES.values())


@pytest.mark.parametrize("name", STAGES)
def test_pins_cover_the_packages_that_decide_numbers(name: str) -> None:
    """Every package that a stage may import is in its group, or in the group of those without a say in any number."""
    used = import_closure(ROOT, MODULES[name])
    packages = used.packages - sys.stdlib_module_names
    listed = [*PYPROJECT["dependency-groups"][ROOMS[name]], *PYPROJECT["dependency-groups"]["workflow"]]
    pinned = {Requirement(line).name.lower() for line in listed}
    distributions = importlib.metadata.packages_distributions()
    parts_of_pydantic = {"pydantic_core", "annotated_types"}
    owners = {package: {name.lower() for name in distributions[package]} for package in packages - parts_of_pydantic}
    assert {package for package, names in owners.items() if not names & pinned} == set()


def test_pins_are_exact_and_agree() -> None:
    """One version of a package in all groups, by `==`, and the same in requirements.lock, or in a lock of their own."""
    versions: dict[str, set[str]] = {}
    for lines in PYPROJECT["dependency-groups"].values():
        for line in lines:
            requirement = Requirement(line)
            assert str(requirement.specifier).startswith("=="), line
            versions.setdefault(requirement.name.lower(), set()).add(str(requirement.specifier))
    lock = "".join(path.read_text() for path in sorted(ROOT.glob("requirements*.lock")))
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
    uncached = [entry for stage in (CLAIM | EXPORT).values() for entry in stage["outs"] if isinstance(entry, dict)]
    assert all(options["cache"] is False for entry in uncached for options in entry.values())
    cached = {
        name
        for stage in STAGES.values()
        for entry in stage["outs"]
        for name, options in (entry.items() if isinstance(entry, dict) else [(entry, {})])
        if options.get("cache", True)
    }
    assert cached == {
        "prepared",
        "models/model.json",
        "models/model.safetensors",
        "models/model.onnx",
        "predictions.csv",
    }
    assert {path.split("/")[0] for path in cached} | {"data", "weights"} == set(PLACES)


def test_only_claim_and_export_read_the_test_split() -> None:
    """`dvc repro` and `dvc exp run` run dvc.yaml alone."""
    readers = {name for name, stage in STAGES.items() if any("prepared/test-" in dep for dep in stage["deps"])}
    assert readers == {"claim", "export"} == CLAIM.keys() | EXPORT.keys()
    assert not any("prepared" in stage["deps"] for stage in STAGES.values())
    assert not any('"test"' in path.read_text() for path in (ROOT / "stages" / "train").glob("*.py"))


def test_artifact_names_the_folder_of_the_weights() -> None:
    assert f"{PIPELINE['artifacts']['classifier']['path']}/model.safetensors" in STAGES["train"]["outs"]
    assert f"{PIPELINE['artifacts']['classifier']['path']}/model.onnx" in EXPORT["export"]["outs"]
