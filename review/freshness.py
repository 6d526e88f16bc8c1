"""Whether a revision's dvc.lock is the result of its code, params, data and packages, and its metrics those of the run.

Told from Git alone, at any revision, without data or cache; `dvc status` tells it of the working tree.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from review.lock import hashes
from review.revision import Missing, Revision


@dataclass(frozen=True)
class Finding:
    """Something at a revision that is not what dvc.lock recorded. `kind`: code, params, data, packages, command, output
    (a file in Git that was changed after the run), or stage (never run)."""

    kind: str
    stage: str
    text: str


def findings(revision: Revision) -> list[Finding]:
    """Everything in which `revision` and its dvc.lock disagree, in the stages' order. Raises Missing without a lock, or
    where a file that tells cannot be read."""
    params_files = {"params.yaml": revision.params}
    found: list[Finding] = []
    for name, stage in revision.declared.get("stages", {}).items():
        locked = revision.lock["stages"].get(name)
        if locked is None:
            found.append(Finding("stage", name, f"{name}: declared in dvc.yaml, but never run"))
            continue
        found += _command(name, stage, locked, params_files["params.yaml"])
        found += _params(name, stage, locked, params_files, revision)
        found += _deps(name, stage, locked, revision)
        found += _outputs(name, stage, locked, revision)
    return found


def _command(name: str, stage: dict[str, Any], locked: dict[str, Any], params: dict[str, Any]) -> Iterator[Finding]:
    command = stage["cmd"]
    for key, value in params.items():
        command = command.replace(f"${{{key}}}", str(value))
    if command != locked["cmd"]:
        yield Finding("command", name, f"{name}: command was `{locked['cmd']}`, is `{command}`")


def _params(
    name: str, stage: dict[str, Any], locked: dict[str, Any], files: dict[str, Any], revision: Revision
) -> Iterator[Finding]:
    wanted: dict[str, list[str]] = {}
    for entry in stage.get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            wanted.setdefault(file, []).extend(keys)
    for file, keys in wanted.items():
        if file not in files:
            files[file] = tomllib.loads((revision.read(file) or b"").decode("utf-8"))
        recorded = locked.get("params", {}).get(file, {})
        for key in keys:
            value = _at(files[file], key)
            if recorded.get(key) != value:
                packages = file == "pyproject.toml"
                kind, where = ("packages", f"{file} {key}") if packages else ("params", key)
                yield Finding(kind, name, f"{name}: {where} was {recorded.get(key)!r} in the run, is {value!r}")


def _deps(name: str, stage: dict[str, Any], locked: dict[str, Any], revision: Revision) -> Iterator[Finding]:
    recorded = {entry["path"]: entry.get("md5") for entry in locked.get("deps", [])}
    made_by_stages = hashes(revision.lock, "outs")
    for path in stage.get("deps", []):
        if path not in recorded:
            yield Finding("code", name, f"{name}: {path} is a dependency since the run")
            continue
        pointer = revision.read(f"{path}.dvc")
        if pointer is not None:
            try:
                version = str(yaml.safe_load(pointer)["outs"][0]["md5"])
            except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
                raise Missing(
                    f"{path}.dvc: not a file that `dvc add` wrote, in {revision} ({error!r}). `git checkout` an older "
                    f"one, or `dvc add {path}`."
                ) from None
            if version != recorded[path]:
                yield Finding("data", name, f"{name}: {path} was {recorded[path][:10]}… in the run, is {version[:10]}…")
            continue
        made = made_by_stages.get(path)
        if made is not None:
            if made != recorded[path]:
                yield Finding("data", name, f"{name}: {path} was another one than the stage before it now makes")
            continue
        # What lies in a folder that DVC tracks is that folder's matter.
        if path.split("/")[0] in made_by_stages:
            continue
        now = revision.hash_of(path)
        if now != recorded[path]:
            yield Finding("code", name, f"{name}: {path} {'is gone' if now is None else 'was changed'} since the run")
    for path in recorded.keys() - set(stage.get("deps", [])):
        yield Finding("code", name, f"{name}: {path} is no dependency any more")


def _outputs(name: str, stage: dict[str, Any], locked: dict[str, Any], revision: Revision) -> Iterator[Finding]:
    recorded = {entry["path"]: entry.get("md5") for entry in locked.get("outs", [])}
    for kind in ("outs", "metrics", "plots"):
        for entry in stage.get(kind, []):
            path, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            if path not in recorded:
                yield Finding("output", name, f"{name}: {path} is an output since the run")
            elif options.get("cache") is False:
                content = revision.read(path)
                if content is None:
                    yield Finding("output", name, f"{path}: not in Git, though {name} made it")
                elif hashlib.md5(content).hexdigest() != recorded[path]:
                    yield Finding("output", name, f"{path}: not what {name} wrote; changed after the run")


def _at(content: Any, key: str) -> Any:
    """The value at `a.b.c`; a key that itself has dots is not among ours."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
