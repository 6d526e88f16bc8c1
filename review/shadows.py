"""Files in Git that Python imports in place of the source that a reviewer reads; told from their names alone.

A compiled module goes before the source beside it, or needs none, and DVC sees of stages/ the `*.py` alone. And
`python -m` looks into the project's folder first, so a module there with the name of a package goes before the package,
also where only other packages import it.
"""

import importlib.machinery
import pkgutil
import sys
import sysconfig
from collections.abc import Collection, Iterator
from functools import cache

from review.revision import Revision

# Extension modules have the interpreter's name before the last part, or not.
_COMPILED = (".so", ".pyd", *importlib.machinery.BYTECODE_SUFFIXES)
_COMPILED_MODULE = "a compiled module, which Python takes in place of a source, and DVC does not see"


def shadows(revision: Revision, rooms: Collection[str], imported: Collection[str]) -> Iterator[tuple[str, str]]:
    """Such files, each with why. `rooms`: the top folders that the stages' modules lie in; `imported`: names that they
    import and that are no modules of the project. Raises Malformed."""
    for room in sorted(rooms):
        for path in revision.files(room):
            if path.endswith(_COMPILED):
                yield path, _COMPILED_MODULE
    for name in revision.top_level():
        module = name.partition(".")[0]
        if name.endswith(_COMPILED):
            yield name, _COMPILED_MODULE
        elif module in _packages() and (name.endswith(".py") or _has_init(revision, name)):
            yield name, f"Python takes it in place of the package {module}, whoever imports that"
        elif name in imported:
            yield name, "a stage imports it, and it has no source"


def _has_init(revision: Revision, folder: str) -> bool:
    """Without an `__init__` in a folder, an installed package goes before it."""
    return any(path.startswith(f"{folder}/__init__.") for path in revision.files(folder))


@cache
def _packages() -> frozenset[str]:
    """Names of the packages that are installed here, and of the standard library's modules."""
    places = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    return frozenset(module.name for module in pkgutil.iter_modules(places)) | sys.stdlib_module_names
