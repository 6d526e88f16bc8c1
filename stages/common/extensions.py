"""Extensions: functions of the project's own that a param names as `package.module:function`.

Each is one file in the room that uses it, which dvc.yaml lists. A params.yaml or a model.json may be anybody's, so its
text names nothing but a function that a module of that room itself defines.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.common.dependencies import ROOT, require_modules_listed
from stages.common.errors import UserError
from stages.common.imports import package_of, parse


@dataclass(frozen=True)
class Extension:
    """The function that a param names, ready to be called with what its contract says. What it raises says so."""

    param: str
    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.param}: {self.name}"

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        try:
            return self.function(*arguments, **keywords, **self.options)
        except Exception as error:
            error.add_note(f"raised in the extension `{self}` of params.yaml")
            raise


def why_no_extension(name: str, room: str) -> str:
    """What is wrong with `name` as an extension in a package such as stages.train, told without importing it; an empty
    text where nothing is."""
    example = f"{room}.mine:function, in {room.replace('.', '/')}/mine.py"
    if not re.fullmatch(rf"{re.escape(room)}(\.[A-Za-z]\w*)+:[A-Za-z]\w*", name, re.ASCII):
        return f"expected the name of a function, such as {example}"
    module, _, function = name.partition(":")
    path = f"{module.replace('.', '/')}.py"
    try:
        source = parse((ROOT / path).read_bytes(), package_of(path))
    except (FileNotFoundError, NotADirectoryError):
        return f"expected the name of a function, such as {example}, but there is no {path}"
    except ValueError as error:
        return f"{path}: not Python: {error}"
    if function not in source.defined:
        return f"{path} defines no {function}; it has {', '.join(sorted(source.defined)) or 'no function'}"
    return ""


def load_extension(
    param: str, name: str, room: str, arguments: tuple[str, ...], keywords: tuple[str, ...], options: Mapping[str, Any]
) -> Extension:
    """Import the function that `param` names. It will be called with `arguments`, by position, `keywords`, by name, and
    those of `options` that its signature has.

    Raises UserError where there is no such function in `room`, where it cannot be called so, or where its module cannot
    be imported: for a syntax error, a package that is not installed, or a module that dvc.yaml does not list.
    """
    if reason := why_no_extension(name, room):
        raise UserError(f"{param}: {name!r}: {reason}.")
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except SyntaxError as error:
        place = f"{error.filename}, line {error.lineno}"
        raise UserError(f"{param}: {name} does not import: {place}: {error.msg}. Correct it.") from None
    except ImportError as error:
        raise UserError(
            f"{param}: {name} does not import: {error}. Install what is missing (CONTRIBUTING.md says how a package is "
            "added), or correct the name."
        ) from None
    except Exception as error:
        error.add_note(f"raised by importing the extension `{param}: {name}` of params.yaml")
        raise
    require_modules_listed()
    extension = Extension(param, name, function, _taken(function, arguments, keywords, options))
    call = f"{attribute}({', '.join([*arguments, *(f'{word}=…' for word in (*keywords, *extension.options))])})"
    try:
        inspect.signature(function).bind(*arguments, **dict.fromkeys(keywords), **extension.options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{param}: {name} cannot be called as {call}: {error}. docs/extend.md says what it is given; what else it "
            "needs, it has as a parameter with a default, which `options` of params.yaml may set."
        ) from None
    return extension


def require_taken(options: Mapping[str, Any], extensions: Sequence[Extension]) -> None:
    """UserError where an option of params.yaml reaches no extension."""
    for option in options:
        if not any(option in extension.options for extension in extensions):
            given = ", ".join(f"`{extension}`" for extension in extensions) or "no extension is set"
            raise UserError(
                f"options: {option}: no extension has a parameter of this name ({given}). Remove it from `options` in "
                f"params.yaml, or give the function a parameter `{option}`."
            )


def _taken(
    function: Callable[..., Any], arguments: tuple[str, ...], keywords: tuple[str, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that the function's signature names."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = [one.name for one in inspect.signature(function).parameters.values() if one.kind in kinds]
    except (TypeError, ValueError):
        return {}
    own = set(parameters[len(arguments) :]) - set(keywords)
    return {name: value for name, value in options.items() if name in own}
