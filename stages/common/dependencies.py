"""Whether dvc.yaml lists the modules and params that a stage uses.

DVC skips a stage whose listed deps and params are unchanged, so of what is not listed nobody would notice a change: the
stage's result would be stale in silence. A stage that uses such a module or param is therefore refused when it runs,
and so never has a result; `python -m review` refuses a revision with the same rules, from its source alone.
"""

import os
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stages.common.documents import DocumentError, parse_yaml
from stages.common.errors import UserError, listed
from stages.common.imports import package_of, parse

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ("dvc.yaml", "claim/dvc.yaml")
# Of a project that has an export.
_EXPORT = "export/dvc.yaml"
_CONSEQUENCE = "does not list for it: after a change of one, DVC would skip the stage, its result stale"


class Stage(NamedTuple):
    """A stage: its name, the file that declares it, and what that says."""

    name: str
    file: str
    declared: dict[str, Any]


def require_modules_listed() -> None:
    """UserError where this process is a stage, and has imported a module of the project that its deps do not cover."""
    stage = _running_stage()
    if stage is None:
        return
    deps = deps_of(stage.declared)
    modules = dict(project_modules())
    unlisted = [path for path in sorted(set(modules.values())) if not is_listed(path, deps) and not _is_harmless(path)]
    if unlisted:
        raise UserError(
            f"{stage.name} imports modules that {stage.file} {_CONSEQUENCE}:\n"
            + listed([f"{path}{_importer(path, modules)}" for path in unlisted])
            + f"\n{remedy(stage.name, stage.file, deps)}"
        )


def require_file_listed(path: str) -> None:
    """UserError where this process is a stage, and its deps do not have a file that it reads."""
    stage = _running_stage()
    if stage is not None and not is_listed(path, deps_of(stage.declared)):
        raise UserError(
            f"{stage.name} reads {path}, which {stage.file} {_CONSEQUENCE}. Add it to stages.{stage.name}.deps there."
        )


def require_line_ends() -> None:
    """UserError where this process is a stage, and a module of the project that it has imported has the line ends of
    Windows: Git stores others (.gitattributes), so dvc.lock would record code that no commit has."""
    if _running_stage() is None:
        return
    others = [path for path in sorted({path for _, path in project_modules()}) if b"\r\n" in (ROOT / path).read_bytes()]
    if others:
        raise UserError(
            "modules with the line ends of Windows, which Git stores as line feeds, so that no commit would have the "
            "code of this run. Set the editor to LF, and convert them (`sed -i 's/\\r$//'`):\n" + listed(others)
        )


def require_params_listed(read: Collection[str], known: Collection[str]) -> None:
    """UserError where this process is a stage, and dvc.yaml does not list one of the params `read`, or lists one that
    is not `known`, so that params.yaml cannot have it."""
    stage = _running_stage()
    if stage is None:
        return
    keys = params_of(stage.declared)
    if unlisted := [key for key in read if key not in keys]:
        raise UserError(
            f"{stage.name} reads params that {stage.file} {_CONSEQUENCE}: {', '.join(unlisted)}. Add them to "
            f"stages.{stage.name}.params there."
        )
    if unknown := [key for key in keys if key not in known]:
        raise UserError(
            f"{stage.file} lists for {stage.name} what is no param: {', '.join(unknown)}. Remove it from "
            f"stages.{stage.name}.params, or add it to the schema of the stage (docs/extend.md)."
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


def deps_of(stage: Mapping[str, Any]) -> list[str]:
    """The paths that a stage of dvc.yaml lists as its deps."""
    return [dep if isinstance(dep, str) else next(iter(dep)) for dep in stage.get("deps", [])]


def params_of(stage: Mapping[str, Any]) -> list[str]:
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


def remedy(stage: str, file: str, deps: Collection[str]) -> str:
    """What a person does about a module that is not listed."""
    folders = ", ".join(dep for dep in deps if dep.startswith("stages/"))
    return (
        f"Move what it needs into a folder that is listed ({folders or 'none is'}), or add its folder to "
        f"stages.{stage}.deps in {file}."
    )


def _running_stage() -> Stage | None:
    """The stage that this process is: the one whose command starts this module, or another one of its package. None
    where it is none, as in a notebook or a test."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    parts = spec.name.removesuffix(".__main__").split(".") if spec else []
    is_stage = len(parts) > 2 or (len(parts) == 2 and spec and spec.name.endswith(".__main__"))
    if not is_stage or parts[0] != "stages":
        return None
    files = [*PIPELINES, *([_EXPORT] if (ROOT / _EXPORT).exists() else [])]
    stages = [Stage(name, file, declared) for file in files for name, declared in _declared(file).items()]
    module, room = ".".join(parts), ".".join(parts[:2])
    for is_its in (lambda word: word == module, lambda word: f"{word}.".startswith(f"{room}.")):
        for stage in stages:
            if any(map(is_its, str(stage.declared.get("cmd", "")).split())):
                return stage
    return None


def _declared(file: str) -> dict[str, Any]:
    try:
        stages: dict[str, Any] = parse_yaml((ROOT / file).read_bytes())["stages"]
        return {name: declared for name, declared in stages.items() if isinstance(declared, dict)}
    except (FileNotFoundError, DocumentError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{ROOT / file}: not a pipeline of this project ({error}). `git checkout {file}` restores the committed "
            "one."
        ) from None


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
