"""Whether dvc.yaml lists the modules and params that a stage uses.

DVC skips a stage whose listed deps and params are unchanged, so of what is not listed nobody would notice a change: the
stage's result would be stale in silence. A stage that uses such a module or param is therefore refused when it runs,
and so never has a result; `python -m review` refuses a revision with the same rules, from its source alone.
"""

import os
import sys
import sysconfig
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from stages.common.documents import DocumentError, parse_yaml
from stages.common.errors import UserError, listed
from stages.common.imports import package_of, parse

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = "dvc.yaml"
# Of the stage that only a claim runs.
_CLAIM = "claim/dvc.yaml"
_CONSEQUENCE = f"{PIPELINE} does not list for it: after a change of one, DVC would skip the stage, its result stale"


def require_modules_listed() -> None:
    """UserError where this process is a stage, and has imported a module of the project that its deps do not cover."""
    stage = _running_stage()
    if stage is None:
        return
    name, declared = stage
    deps = deps_of(declared)
    modules = dict(project_modules())
    unlisted = [path for path in sorted(set(modules.values())) if not is_listed(path, deps) and not _is_harmless(path)]
    if unlisted:
        raise UserError(
            f"{name} imports modules that {_CONSEQUENCE}:\n"
            + listed([f"{path}{_importer(path, modules)}" for path in unlisted])
            + f"\n{remedy(name, deps)}"
        )


def require_params_listed(read: Collection[str], known: Collection[str]) -> None:
    """UserError where this process is a stage, and dvc.yaml does not list one of the params `read`, or lists one that
    is not `known`, so that params.yaml cannot have it."""
    stage = _running_stage()
    if stage is None:
        return
    name, declared = stage
    keys = params_of(declared)
    if unlisted := [key for key in read if key not in keys]:
        raise UserError(
            f"{name} reads params that {_CONSEQUENCE}: {', '.join(unlisted)}. Add them to stages.{name}.params in "
            f"{PIPELINE}."
        )
    if unknown := [key for key in keys if key not in known]:
        raise UserError(
            f"{PIPELINE} lists for {name} what is no param: {', '.join(unknown)}. Remove it from stages.{name}.params, "
            "or add it to the schema of the stage (docs/extend.md)."
        )


def project_modules() -> Iterator[tuple[str, str]]:
    """The modules of the project that are imported in this process: name, and path below ROOT. Not those of packages,
    though .venv may lie there."""
    packages = tuple({f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
    root = f"{ROOT}{os.sep}"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # Some modules of torch are objects, whose `file` is the mere name of one; multiprocessing has another name for
        # the main module that it was first imported under.
        if not isinstance(file, str) or not file.startswith(os.sep) or file.startswith(packages):
            continue
        if name == "__mp_main__":
            continue
        # A folder may be on the path by another name.
        real = file if file.startswith(root) else os.path.realpath(file)
        if real.startswith(root):
            yield name, Path(real).relative_to(ROOT).as_posix()


def deps_of(stage: dict[str, Any]) -> list[str]:
    """The paths that a stage of dvc.yaml lists as its deps."""
    return [dep if isinstance(dep, str) else next(iter(dep)) for dep in stage.get("deps", [])]


def params_of(stage: dict[str, Any]) -> list[str]:
    """The keys that a stage of dvc.yaml lists of params.yaml."""
    keys: list[str] = []
    for entry in stage.get("params", []):
        for file, names in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            keys += (names or []) if file == "params.yaml" else []
    return keys


def is_listed(path: str, deps: Collection[str]) -> bool:
    """Whether a change of the file is one of a dep: of itself, or of a folder, of which .dvcignore leaves only modules
    to DVC where it lies in stages/."""
    if path in deps:
        return True
    is_seen = not path.startswith("stages/") or path.endswith(".py")
    return is_seen and any(str(folder) in deps for folder in PurePosixPath(path).parents)


def is_schema(path: str) -> bool:
    """Whether the file is one of the schemas: `load` checks all of params.yaml by them, and gives a stage only what
    its own says. So what the others decide is whether params.yaml is refused."""
    pure = PurePosixPath(path)
    return path in ("stages/params.py", "stages/model/names.py") or (
        pure.name == "params.py" and len(pure.parts) == 3 and pure.parts[0] == "stages" and pure.parts[1] != "common"
    )


def remedy(stage: str, deps: Collection[str]) -> str:
    """What a person does about a module that is not listed."""
    folders = ", ".join(dep for dep in deps if dep.startswith("stages/"))
    return (
        f"Move what it needs into a folder that is listed ({folders or 'none is'}), or add its folder to "
        f"stages.{stage}.deps in {PIPELINE}."
    )


def _running_stage() -> tuple[str, dict[str, Any]] | None:
    """Name and declaration of the stage that this process is, `python -m stages.<name>`; None where it is none."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    parts = spec.name.split(".") if spec else []
    if len(parts) < 3 or parts[0] != "stages":
        return None
    stages: dict[str, Any] = {}
    for file in (PIPELINE, _CLAIM):
        try:
            stages |= parse_yaml((ROOT / file).read_bytes())["stages"]
        except (FileNotFoundError, DocumentError, KeyError, TypeError) as error:
            raise UserError(
                f"{ROOT / file}: no pipeline of this project ({error}). `git checkout {file}` restores the committed "
                "one."
            ) from None
    # DVC's name of the stage, where it is another one than the module's; of a file in a subfolder after a colon.
    for name in (os.environ.get("DVC_STAGE", "").rpartition(":")[2], parts[2], parts[1]):
        if name in stages:
            return name, stages[name]
    return None


def _is_harmless(path: str) -> bool:
    """Whether a module that no dep covers has no say in a result."""
    return is_schema(path) or (
        path.endswith("__init__.py") and parse((ROOT / path).read_bytes(), package_of(path)).is_plain
    )


def _importer(path: str, modules: dict[str, str]) -> str:
    """Which of the imported modules names it, in words; nothing where none does."""
    names = {name for name, file in modules.items() if file == path}
    for file in sorted(set(modules.values()) - {path}):
        # What is no Python source, or too large to read, may import too.
        with suppress(ValueError):
            source = parse((ROOT / file).read_bytes(), package_of(file))
            if names & (source.imports | source.texts):
                return f" (imported by {file})"
    return ""
