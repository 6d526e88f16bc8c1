"""Reading params.yaml: `load` gives a stage the keys of its own schema, after the whole file was checked.

Each stage has its schema in its room; stages/params.py combines them.
"""

import difflib
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from stages.common.dependencies import require_line_ends, require_modules_listed, require_params_listed
from stages.common.documents import DocumentError, parse_yaml
from stages.common.errors import UserError
from stages.common.extensions import why_no_extension

PARAMS_FILE = Path("params.yaml")


Seed = Annotated[int, Ge(0), Le(2**32 - 1)]


class Schema(BaseModel):
    """Strict: a number is never true, 'abc', nan or null; an integer is one.

    A field that not every params.yaml has, because it came later, has a default and a `description`, from which
    `python -m stages.params --add-missing` writes it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def named_in(room: str) -> Callable[[str], str]:
    """A validator of params that name an extension in the package `room`, or none: ''."""

    def validate(name: str) -> str:
        if name and (reason := why_no_extension(name, room)):
            raise PydanticCustomError("extension", "{reason}", {"reason": reason})
        return name

    return validate


StageParams = TypeVar("StageParams", bound=Schema)


def load(schema: type[StageParams], path: Path = PARAMS_FILE) -> StageParams:
    """Read `path`, check all of it, and return the part that `schema` names. Says on stderr which of its keys are
    missing and have their default.

    Raises UserError naming every problem: unknown, missing, mistyped and out-of-range keys; and where dvc.yaml does not
    list what the stage that this process is uses.
    """
    content = read_params(path)
    whole = all_params()
    require_modules_listed()
    require_line_ends()
    require_params_listed(schema.model_fields, whole.model_fields)
    try:
        whole.model_validate(content)
    except ValidationError as error:
        problems = [_explain(problem["type"], problem, content, whole.model_fields) for problem in error.errors()]
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise UserError(
            f"{path}: {count}\n" + "\n".join(f"  {line}" for line in problems) + f"\nCorrect {path}; "
            f"`git checkout {path}` restores the committed values, also after `dvc exp run -S`."
        ) from None
    for name, field in missing(schema, content).items():
        # Of several processes that train together, the first says it.
        if os.environ.get("RANK", "0") == "0":
            print(f"params: {name}: not in {path}, so it is {field.default!r}, its default", file=sys.stderr)
    return schema.model_validate({name: content[name] for name in schema.model_fields if name in content})


def read_params(path: Path) -> dict[str, Any]:
    """The keys and values of `path`, unchecked. UserError where it is no YAML mapping."""
    try:
        content = parse_yaml(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. `git checkout {path}` restores the committed one.") from None
    except DocumentError as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        got = "an empty file" if content is None else f"a {type(content).__name__}"
        raise UserError(
            f"{path}: expected one `key: value` per line, got {got}. `git checkout {path}` restores the committed one."
        )
    return {str(key): value for key, value in content.items()}


def missing(schema: type[Schema], content: dict[str, Any]) -> dict[str, FieldInfo]:
    """The keys with a default that `content` does not have: those that came later than the file."""
    return {
        name: field for name, field in schema.model_fields.items() if name not in content and not field.is_required()
    }


def all_params() -> type[Schema]:
    """The schema of the whole file.

    Imported by its name: it combines the schemas of all rooms, while a stage's result depends on its own only. So
    dvc.yaml does not list it, and a new key of train does not decode all images again.
    """
    schema: type[Schema] = import_module("stages.params").Params
    return schema


def _explain(kind: str, problem: Any, content: dict[str, Any], fields: dict[str, FieldInfo]) -> str:
    """One line for one pydantic error: the key, what was expected, what came."""
    if kind == "conflict":
        return str(problem["msg"])
    key = str(problem["loc"][0])
    if kind == "extra_forbidden":
        missing = [name for name in fields if name not in content]
        near = difflib.get_close_matches(key, missing, n=1) or difflib.get_close_matches(key, fields, n=1)
        return f"{key}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")
    field = fields[key]
    if kind == "missing":
        return f"{key}: missing; expected {_expectation(field)}"
    if kind in ("extension", "options"):
        return f"{key}: {problem['msg']}; got {json.dumps(problem['input'], default=str)}"
    if kind == "regular_expression":
        return f"{key}: expected a regular expression; got {json.dumps(problem['input'])}: {problem['msg']}"
    expected = problem["msg"].removeprefix("expected ") if kind == "unknown_name" else _expectation(field)
    return f"{key}: expected {expected}; got {json.dumps(problem['input'], default=str)}"


def _expectation(field: FieldInfo) -> str:
    """The field's type and range in words, from the same annotations that check it."""
    if get_origin(field.annotation) is list:
        return "a list of arguments, such as [torchrun, --standalone, --nproc-per-node, 2]"
    if get_origin(field.annotation) is dict:
        return "names with numbers, texts, true or false, such as {width: 64}"
    if choices := get_args(field.annotation):
        return " or ".join(choices)
    if field.annotation is str:
        return "a text"
    if field.annotation is bool:
        return "true or false"
    words = "an integer" if field.annotation is int else "a number"
    for rule in field.metadata:
        match rule:
            case Gt(gt=bound):
                words += f" above {bound}"
            case Ge(ge=bound):
                words += f" from {bound}"
            case Le(le=bound):
                words += f" up to {bound}"
    return words
