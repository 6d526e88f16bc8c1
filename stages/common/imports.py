"""What a Python module imports, told from its source, which may be anybody's: nothing of it is run."""

import ast
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

# No module that a person wrote comes near; what parses it, takes a second for so much.
MOST_BYTES = 512 << 10
# `package.module`, as importlib.import_module takes it, or `package.module:function`, as params.yaml does.
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+(:\w+)?")
_KINDS = {ast.Import, ast.ImportFrom, ast.Assign, ast.Call, ast.Constant}
_IMPORTERS = ("import_module", "__import__")


class Class(NamedTuple):
    """A class: its bases, as they are written, and the names of its annotated attributes."""

    bases: tuple[str, ...]
    fields: tuple[str, ...]


class Source(NamedTuple):
    """What a module's source says.

    imports:  full names of all that it may import, at its top or in a function
    texts:    texts that may be the names of modules, wherever they stand
    names:    of names that imports bind, what they stand for: `from a.b import c as d` is d → a.b.c
    classes:  those at its top
    defined:  functions and classes at its top
    calls:    of each call, what is called and its first argument, where both are names with dots or without
    is_plain: whether it does nothing but import whole modules, which have a say of their own
    """

    imports: frozenset[str]
    texts: frozenset[str]
    names: dict[str, str]
    classes: dict[str, Class]
    defined: frozenset[str]
    calls: tuple[tuple[str, str], ...]
    is_plain: bool


@lru_cache(maxsize=4096)
def parse(content: bytes, package: str) -> Source:
    """Read a module of `package`, whose name relative imports continue. Raises ValueError where it is not Python, or is
    larger or deeper than code is."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"{len(content):,} bytes; expected {MOST_BYTES:,} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # As bytes, so that a line `# coding: ...` means what it means to Python.
            tree = ast.parse(content)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}" if error.lineno else error.msg) from None
    except (RecursionError, MemoryError):
        raise ValueError("nested too deeply") from None
    except LookupError as error:
        raise ValueError(str(error)) from None
    imports: set[str] = set()
    texts: set[str] = set()
    names: dict[str, str] = {}
    calls = []
    for node in ast.walk(tree):
        # Most nodes are of other kinds, and `match` asks for each of these in turn.
        if type(node) not in _KINDS:
            continue
        match node:
            case ast.Import():
                imports |= {alias.name for alias in node.names}
                # `import a.b` binds a, which then stands for itself.
                names |= {alias.asname: alias.name for alias in node.names if alias.asname}
                names |= {name: name for alias in node.names if (name := alias.name.partition(".")[0])}
            case ast.ImportFrom():
                base = _absolute("." * node.level + (node.module or ""), package)
                imports |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
                names |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                # What `from package import *` imports.
                listed = [part.value for part in ast.walk(value) if isinstance(part, ast.Constant)]
                imports |= {f"{package}.{name}" for name in listed if isinstance(name, str)}
            case ast.Call(func=func, args=[first, *_]):
                called = _dotted(func)
                match first:
                    case ast.Constant(value=str() as text) if called.rpartition(".")[2] in _IMPORTERS:
                        imports.add(_absolute(text, package))
                    case ast.Name() | ast.Attribute():
                        calls.append((called, _dotted(first)))
            case ast.Constant(value=str() as text) if _NAME.fullmatch(text):
                texts.add(text.partition(":")[0])
    defined = (node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return Source(
        frozenset(imports),
        frozenset(texts),
        names,
        dict(_classes(tree)),
        frozenset(defined),
        tuple(calls),
        all(map(_is_plain, tree.body)),
    )


def package_of(path: str) -> str:
    """The package of a module, by its path from the project's root."""
    return path.rpartition("/")[0].replace("/", ".")


def _absolute(name: str, package: str) -> str:
    """`..a` in x.y.z is x.y.a."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([rest] if rest else [])])


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is one; else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _classes(tree: ast.Module) -> Iterator[tuple[str, Class]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            fields = [
                part.target.id
                for part in node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
            yield node.name, Class(tuple(_dotted(base) for base in node.bases), tuple(fields))


def _is_plain(node: ast.stmt) -> bool:
    match node:
        case ast.Import():
            return not any(alias.asname for alias in node.names)
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return True
    return False
