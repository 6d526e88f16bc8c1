"""What DVC keeps in Git, dvc.yaml, dvc.lock and *.dvc, in the form that review relies on.

Each function takes a parsed file and raises ValueError, with the place and what was expected, where it is another form:
somebody's branch may hold anything. What decides a run, but review does not follow, is another form too.
"""

import re
from collections.abc import Iterator
from typing import Any

_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")
# Of dvc.yaml's stages. Not among them: `wdir`, `foreach`, `matrix` and `vars`, by which a path or a command stands for
# another one; and `frozen`, by which a stage is not run, whatever its outputs are.
_STAGE_KEYS = {"cmd", "deps", "params", "outs", "metrics", "plots", "desc", "meta", "always_changed"}
_LOCKED_KEYS = {"cmd", "deps", "params", "outs"}
# Of deps and outs in all stages.
_MOST_PATHS = 2_000
_OUTPUT_KINDS = ("outs", "metrics", "plots")


def require_lock(content: Any) -> dict[str, Any]:
    """dvc.lock: `stages`, each with its command, and paths and digests of what it read and wrote."""
    lock = _mapping(content, "the file")
    if lock.get("schema") != "2.0":
        raise ValueError(f"schema: expected '2.0', got {lock.get('schema')!r}")
    for name, stage in _mapping(lock.get("stages"), "stages").items():
        where = f"stages.{name}"
        _require_keys(stage, _LOCKED_KEYS, where)
        _require_command(stage, where)
        for file, values in _mapping(stage.get("params", {}), f"{where}.params").items():
            _mapping(values, f"{where}.params.{file}")
        for kind in ("deps", "outs"):
            paths = [_locked(entry, f"{where}.{kind}") for entry in _list(stage.get(kind, []), f"{where}.{kind}")]
            _require_once(paths, f"{where}.{kind}")
    stages = lock["stages"].values()
    _require_once([out["path"] for stage in stages for out in stage.get("outs", [])], "outs of all stages")
    _require_few(sum(len(stage.get(kind, [])) for stage in stages for kind in ("deps", "outs")))
    return lock


def require_declared(content: Any, wdir: str | None = None) -> dict[str, Any]:
    """dvc.yaml: `stages`, each with its command, and what it reads and writes. Empty where nothing is declared. `wdir`:
    what all stages of a file in a folder have, where paths are those of the project's root."""
    declared = _mapping({} if content is None else content, "the file")
    named_metrics(declared)
    for name, stage in _mapping(declared.get("stages", {}), "stages").items():
        where = f"stages.{name}"
        _require_keys(stage, _STAGE_KEYS | ({"wdir"} if wdir else set()), where)
        if stage.get("wdir") != wdir:
            raise ValueError(f"{where}.wdir: expected {wdir!r}, got {stage.get('wdir')!r}")
        _require_command(stage, where)
        deps = [_text(path, f"{where}.deps") for path in _list(stage.get("deps", []), f"{where}.deps")]
        _require_once(deps, f"{where}.deps")
        for entry in _list(stage.get("params", []), f"{where}.params"):
            for file, keys in _mapping(entry, f"{where}.params").items() if not isinstance(entry, str) else ():
                for key in _list([] if keys is None else keys, f"{where}.params.{file}"):
                    _text(key, f"{where}.params.{file}")
        paths = [path for path, _ in outputs(stage)]
        _require_once(paths, f"{where}: outputs")
        _require_few(len(deps) + len(paths))
    return declared


def outputs(stage: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outputs that a stage of dvc.yaml declares, metrics and plots among them, with their options."""
    for kind in _OUTPUT_KINDS:
        for entry in _list(stage.get(kind, []), kind):
            pairs = [(entry, {})] if isinstance(entry, str) else list(_mapping(entry, kind).items())
            for path, options in pairs:
                yield _text(path, kind), _mapping({} if options is None else options, f"{kind}: {path}")


def named_metrics(declared: dict[str, Any]) -> list[str]:
    """The files that dvc.yaml names as metrics beside its stages."""
    return [_text(path, "metrics") for path in _list(declared.get("metrics", []), "metrics")]


def require_pointer(content: Any, name: str) -> str:
    """The digest that a *.dvc file names of its one output, `name`, as `dvc add` writes it."""
    # Of another folder than the one that it lies in.
    if "wdir" in _mapping(content, "the file"):
        raise ValueError("wdir, which review does not follow; `dvc add` writes none")
    outs = _list(content.get("outs"), "outs")
    if len(outs) != 1:
        raise ValueError(f"outs: expected one, got {len(outs)}")
    if _mapping(outs[0], "outs").get("path") != name:
        raise ValueError(f"outs: path: expected {name}, got {outs[0].get('path')!r}")
    return _require_digest(outs[0].get("md5"), "outs")


def require_listing(content: Any) -> dict[str, str]:
    """The digests of a folder's files, by path in it, from the list that DVC keeps of the folder."""
    entries = [_mapping(entry, "the list") for entry in _list(content, "the list")]
    return {_text(entry.get("relpath"), "relpath"): _require_digest(entry.get("md5"), "the list") for entry in entries}


def _locked(entry: Any, where: str) -> str:
    path = _text(_mapping(entry, where).get("path"), f"{where}: path")
    digest = entry.get("md5")
    # What lies outside of the project, in a cloud, has another kind of digest.
    if digest is not None:
        _require_digest(digest, f"{where}: {path}")
        if entry.get("hash") != "md5":
            raise ValueError(f"{where}: {path}: hash: expected md5, got {entry.get('hash')!r}")
    return path


def _require_digest(digest: Any, where: str) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{where}: md5: expected a digest, got {digest!r}")
    return digest


def _require_keys(stage: Any, known: set[str], where: str) -> None:
    unknown = sorted(_mapping(stage, where).keys() - known)
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)}, which review does not follow; write the stage out")


def _require_command(stage: dict[str, Any], where: str) -> None:
    _text(stage.get("cmd"), f"{where}.cmd")


def _require_once(paths: list[str], where: str) -> None:
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"{where}: {twice} is there twice")


def _require_few(paths: int) -> None:
    if paths > _MOST_PATHS:
        raise ValueError(f"{paths:,} deps and outs; expected {_MOST_PATHS:,} at most")


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{where}: expected names with values, got {_kind(content)}")
    return content


def _list(content: Any, where: str) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError(f"{where}: expected a list, got {_kind(content)}")
    return content


def _text(content: Any, where: str) -> str:
    if not isinstance(content, str) or not content:
        raise ValueError(f"{where}: expected a text, got {_kind(content)}")
    return content


def _kind(content: Any) -> str:
    kinds = {"dict": "a mapping", "list": "a list", "str": "a text", "NoneType": "nothing"}
    return kinds.get(type(content).__name__, repr(content))
