"""Whether a revision's dvc.lock is the result of its code, params, data and packages, and its metrics those of the run.

Told from Git alone, at any revision, without data or cache; `dvc status` tells it of the working tree.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from review import imports
from review.dvc_files import outputs
from review.imports import Closure
from review.lock import Lock, hashes
from review.revision import Malformed, Revision
from review.shadows import shadows
from stages.common.corrections import FILE as CORRECTIONS
from stages.common.dependencies import deps_of, is_listed, remedy

ENVIRONMENT = "metrics/environment.json"
# Params whose value a run records, unless it is auto.
_RECORDED_PARAMS = {"deterministic", "device", "precision", "threads"}


@dataclass(frozen=True)
class Finding:
    """Something at a revision that is not what dvc.lock recorded. `kind`: code, params, data, packages, command, output
    (a file in Git that was changed after the run), stage (never run), unlisted (a module or a param that the stage uses
    and dvc.yaml does not list, so that a change of it would not be noticed), or unreadable."""

    kind: str
    stage: str
    text: str


def findings(revision: Revision) -> list[Finding]:
    """Everything in which `revision` and its dvc.lock disagree, in the stages' order. Raises Missing without a lock, or
    where a file that tells cannot be read. The claim is not among it: see review.claim."""
    found = disagreements(revision, "dvc.yaml", revision.declared, "dvc.lock", revision.lock)
    return [*found, *_record(revision), *_corrections(revision)]


def _corrections(revision: Revision) -> Iterator[Finding]:
    """Decisions about images that prepare reads, so that DVC has to know of them."""
    prepare = revision.declared.get("stages", {}).get("prepare")
    if prepare is not None and revision.in_git(str(CORRECTIONS)) and not is_listed(str(CORRECTIONS), deps_of(prepare)):
        text = f"prepare: reads {CORRECTIONS}, which dvc.yaml does not list as one of its deps. Add it there."
        yield Finding("unlisted", "prepare", text)


def _record(revision: Revision) -> Iterator[Finding]:
    """Where the record of the machine is not what the params let a run record: it excuses other bytes, so it is worth a
    forger's while."""
    if revision.read(ENVIRONMENT) is None:
        return  # an output that is not there has a finding of its own
    try:
        record = revision.json(ENVIRONMENT)
    except Malformed as reason:
        yield Finding("output", "train", str(reason))
        return
    for name in _RECORDED_PARAMS & record.keys() & revision.params.keys():
        if revision.params[name] not in ("auto", record[name]):
            text = f"{ENVIRONMENT}: {name} {record[name]}, but params.yaml says {revision.params[name]}"
            yield Finding("output", "train", text)


def disagreements(
    revision: Revision, declared_in: str, declared: dict[str, Any], locked_in: str, lock: Lock
) -> list[Finding]:
    """The same of the stages in these two files. Raises Missing."""
    params_files: dict[str, Any] = {"params.yaml": revision.params}
    found: list[Finding] = []
    closures: list[Closure] = []
    read = _reader(revision)
    for name in lock["stages"].keys() - declared.get("stages", {}).keys():
        found.append(Finding("stage", name, f"{name}: in {locked_in}, but not declared in {declared_in}"))
    for name, stage in declared.get("stages", {}).items():
        locked = lock["stages"].get(name)
        if locked is None:
            found.append(Finding("stage", name, f"{name}: declared in {declared_in}, but never run"))
            continue
        found += _command(name, stage, locked, params_files["params.yaml"])
        found += _params(name, stage, locked, params_files, revision)
        found += _deps(name, stage, locked, revision)
        found += _outputs(name, stage, locked, revision)
        closures.append(imports.closure(imports.starts(stage, revision.params), read))
        found += _unlisted(name, stage, declared_in, closures[-1])
    found += _shadows(closures, revision)
    return list(dict.fromkeys(found))


def _reader(revision: Revision) -> Callable[[str], bytes | None]:
    """Of each file, once: the stages share most modules, and most names that they import are of packages."""
    here = (path.name for path in Path().iterdir())
    top = set(here if revision.commit is None else revision.top_level())
    return cache(lambda path: revision.read(path) if path.partition("/")[0] in top else None)


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
            wanted.setdefault(file, []).extend(keys or [])
    recorded = locked.get("params", {})
    for file in [*wanted, *(file for file in recorded if file not in wanted)]:
        if file not in recorded:
            yield Finding("params", name, f"{name}: {file} has params of it since the run")
        if file not in files:
            files[file] = revision.document(file)
        values = recorded.get(file, {})
        # Without keys, all of the file is tracked.
        all_keys = files[file].keys() if file in wanted and not wanted[file] and isinstance(files[file], dict) else ()
        keys = [*wanted.get(file, ()), *all_keys]
        for key in keys:
            value = _at(files[file], key)
            if key not in values:
                yield Finding("params", name, f"{name}: {file} {key} is a param since the run")
            elif values[key] != value:
                packages = file == "pyproject.toml"
                kind, where = ("packages", f"{file} {key}") if packages else ("params", key)
                yield Finding(kind, name, f"{name}: {where} was {values[key]!r} in the run, is {value!r}")
        for key in values:
            if key not in keys:
                yield Finding("params", name, f"{name}: {file} {key} is no param any more")


def _deps(name: str, stage: dict[str, Any], locked: dict[str, Any], revision: Revision) -> Iterator[Finding]:
    recorded = {entry["path"]: entry.get("md5") for entry in locked.get("deps", [])}
    made_by_stages = hashes(revision.lock, "outs")
    for path in stage.get("deps", []):
        if path not in recorded:
            yield Finding("code", name, f"{name}: {path} is a dependency since the run")
            continue
        made = made_by_stages.get(path)
        if made is not None:
            if made != recorded[path]:
                yield Finding("data", name, f"{name}: {path} was another one than the stage before it now makes")
            continue
        # What is in Git is itself what the run reads, whatever else claims its name.
        version = None if revision.in_git(path) else revision.pointer(path)
        if version is not None:
            if version != recorded[path]:
                was = str(recorded[path])[:10]
                yield Finding("data", name, f"{name}: {path} was {was}… in the run, is {version[:10]}…")
            continue
        # What lies in a folder that DVC tracks is that folder's matter.
        if path.split("/")[0] in made_by_stages and not revision.in_git(path):
            if any(other != recorded[path] for other in _recorded_of(path, revision)):
                yield Finding("data", name, f"{name}: {path} was another one than in another stage's run")
            continue
        now = revision.hash_of(path)
        if now != recorded[path]:
            yield Finding("code", name, f"{name}: {path} {'is gone' if now is None else 'was changed'} since the run")
    for path in recorded.keys() - set(stage.get("deps", [])):
        yield Finding("code", name, f"{name}: {path} is no dependency any more")


def _recorded_of(path: str, revision: Revision) -> list[str | None]:
    deps = [dep for stage in revision.lock["stages"].values() for dep in stage.get("deps", [])]
    return [dep.get("md5") for dep in deps if dep["path"] == path]


def _outputs(name: str, stage: dict[str, Any], locked: dict[str, Any], revision: Revision) -> Iterator[Finding]:
    recorded = {entry["path"]: entry.get("md5") for entry in locked.get("outs", [])}
    declared = dict(outputs(stage))
    for path, options in declared.items():
        if path not in recorded:
            yield Finding("output", name, f"{name}: {path} is an output since the run")
        elif recorded[path] is None:
            yield Finding("output", name, f"{name}: its lock has no MD5 of {path}")
        # One that DVC keeps, and that is in Git besides, is read from Git.
        elif options.get("cache") is False or revision.in_git(path):
            now = revision.hash_of(path)
            if now is None:
                yield Finding("output", name, f"{path}: not in Git, though {name} made it")
            elif now != recorded[path]:
                yield Finding("output", name, f"{path}: not what {name} wrote; changed after the run")
    for path in recorded.keys() - declared.keys():
        yield Finding("output", name, f"{name}: {path} is no output any more")


def _unlisted(name: str, stage: dict[str, Any], declared_in: str, used: Closure) -> Iterator[Finding]:
    if not used.importers:
        yield Finding("unlisted", name, f"{name}: no module of the project is what `{stage['cmd']}` runs")
    for path, reason in used.unreadable.items():
        yield Finding("unreadable", name, f"{path}: {reason}")
    for path, importer in imports.unlisted_modules(used, stage):
        text = f"{name}: uses {path} (imported by {importer}), which {declared_in} does not list"
        yield Finding("unlisted", name, f"{text}. {remedy(name, declared_in, deps_of(stage))}")
    for param, path in imports.unlisted_params(used, stage):
        text = f"{name}: {path} reads {param}, which {declared_in} does not list as a param of {name}. Add it there."
        yield Finding("unlisted", name, text)


def _shadows(closures: list[Closure], revision: Revision) -> Iterator[Finding]:
    rooms = {path.split("/")[0] for used in closures for path in used.importers if "/" in path}
    try:
        for path, why in shadows(revision, rooms, {name for used in closures for name in used.packages}):
            yield Finding("unlisted", path, f"{path}: {why}. Remove it from Git.")
    except Malformed as malformed:
        yield Finding("unreadable", "", str(malformed))


def _at(content: Any, key: str) -> Any:
    """The value at `a.b.c`; a key that itself has dots is not among ours."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
