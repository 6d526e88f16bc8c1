"""Modules and params that a stage uses, told from the source at a revision, which may be anybody's: nothing is run.

The rules are those of stages/common/dependencies.py, by which a stage that uses what dvc.yaml does not list is refused
when it runs; here of what is written, there of what was imported.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from stages.common.dependencies import deps_of, is_listed, is_schema, params_of
from stages.common.imports import Source, package_of, parse

_MOST_MODULES = 2_000
_MOST_BYTES = 8 << 20
_COMMAND = re.compile(r"\bpython[\d.]*(?: -[uX]\S*)* (?:-m (?P<module>[\w.]+)|(?P<file>[\w./-]+\.py))(?:\s|$)")
# Of a module that starts another one, as launch.py does: an argument list.
_STARTED = re.compile(rb"""["']-m["'],\s*["']([\w.]+)["']""")
_VALUE = re.compile(r"[\w.]+:\w+")
_LOAD = "stages.common.params.load"


class Closure(NamedTuple):
    """What a module imports, directly or not: the project's files, each with those that import it; the top-level names
    of what is not the project's; and, of files that are no Python, why."""

    importers: dict[str, set[str]]
    packages: set[str]
    sources: dict[str, Source]
    unreadable: dict[str, str]


def closure(names: Mapping[str, str], read: Callable[[str], bytes | None]) -> Closure:
    """Follow every form of import from modules on, `names`, each with what names it. `read`: the content of a file of
    the project by its path, None where there is none."""
    found = Closure({}, set(), {}, {})
    contents: dict[str, bytes | None] = {}
    waiting = [(name, source) for name, source in names.items()]
    seen = set(waiting)
    size = 0
    own: set[str] = set()
    while waiting:
        name, importer = waiting.pop()
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            stem = "/".join(parts[:length])
            for path in (f"{stem}.py", f"{stem}/__init__.py"):
                if path not in contents:
                    contents[path] = read(path) if all(parts[:length]) else None
                content = contents[path]
                if content is None:
                    continue
                own.add(parts[0])
                if path != importer:
                    found.importers.setdefault(path, set()).add(importer)
                if path in found.sources or path in found.unreadable:
                    continue
                size += len(content)
                if len(found.importers) > _MOST_MODULES or size > _MOST_BYTES:
                    found.unreadable[path] = f"expected {_MOST_MODULES:,} modules of {_MOST_BYTES:,} bytes at most"
                    return found
                try:
                    source = found.sources[path] = parse(content, package_of(path))
                except ValueError as error:
                    found.unreadable[path] = f"not Python: {error}"
                    continue
                started = {f"{name.decode()}.__main__" for name in _STARTED.findall(content)}
                new = {(imported, path) for imported in source.imports | source.texts | started} - seen
                seen |= new
                waiting += sorted(new)
    imported = {name.partition(".")[0] for source in found.sources.values() for name in source.imports}
    found.packages.update(imported - own)
    return found


def starts(stage: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, str]:
    """The modules that a stage of dvc.yaml starts with: those of its command, and the functions that params name; each
    with what names it."""
    found: dict[str, str] = {}
    for match in _COMMAND.finditer(stage["cmd"]):
        module = match["module"] or match["file"].removesuffix(".py").replace("/", ".")
        found |= {module: "its command", f"{module}.__main__": "its command"}
    deps, keys = deps_of(stage), params_of(stage)
    for key, value in params.items():
        if isinstance(value, str) and _VALUE.fullmatch(value):
            module = value.partition(":")[0]
            # evaluate builds the model that train's param names, from a room that both list.
            if key in keys or is_listed(f"{module.replace('.', '/')}.py", deps):
                found.setdefault(module, f"{key} in params.yaml")
    return found


def unlisted_modules(found: Closure, stage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The project's files that no dep of the stage covers, though they may have a say in its result; each with a file
    that imports it."""
    deps = deps_of(stage)
    for path, importers in sorted(found.importers.items()):
        is_plain = path.endswith("__init__.py") and path in found.sources and found.sources[path].is_plain
        if is_plain or is_listed(path, deps):
            continue
        # Of a schema, only what checks params.yaml as a whole has no say.
        others = {one for one in importers if one != "stages/common/params.py" and not is_schema(one)}
        if not is_schema(path) or others:
            yield path, min(others or importers)


def unlisted_params(found: Closure, stage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The params that the stage's schemas read and dvc.yaml does not list for it, each with the file that reads it;
    `load` in place of their names, where they cannot be told."""
    deps, keys = deps_of(stage), params_of(stage)
    for path, source in sorted(found.sources.items()):
        if is_schema(path) and not is_listed(path, deps):
            continue
        for called, argument in source.calls:
            if _full(called, source) != _LOAD:
                continue
            fields = _fields(path, argument, found, set())
            if fields is None:
                yield f"load({argument})", path
            yield from ((field, path) for field in fields or () if field not in keys)


def _full(name: str, source: Source) -> str:
    """A name with dots, by the names that the module's imports bind."""
    head, dot, rest = name.partition(".")
    return source.names.get(head, head) + dot + rest


def _fields(path: str, name: str, found: Closure, seen: set[tuple[str, str]]) -> list[str] | None:
    """The fields of a schema, its bases' among them, by the name that the module at `path` has for it; None where that
    leads to no class of the project."""
    source = found.sources.get(path)
    if source is None or (path, name) in seen:
        return None
    seen = seen | {(path, name)}
    if name in source.classes:
        if path == "stages/common/params.py":
            return []
        fields = list(source.classes[name].fields)
        for base in source.classes[name].bases:
            inherited = _fields(path, base, found, seen)
            if inherited is None:
                return None
            fields += inherited
        return fields
    module, _, attribute = _full(name, source).rpartition(".")
    stem = module.replace(".", "/")
    for target in (f"{stem}.py", f"{stem}/__init__.py"):
        if target in found.sources and (target, attribute) != (path, name):
            return _fields(target, attribute, found, seen)
    return None
