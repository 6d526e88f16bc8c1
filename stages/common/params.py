"""Reading params.yaml: `load` gives a stage the keys of its own schema, after the whole file was checked.

Each stage has its schema in its room; stages/params.py combines them.
"""

import difflib
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from stages.common.documents import DocumentError, parse_yaml
from stages.common.errors import UserError

PARAMS_FILE = Path("params.yaml")


def _number_from_yaml_1_2(value: object) -> object:
    """`dvc exp run -S lr=1e-5` writes `1e-05`: a float in YAML 1.2, but a string to PyYAML, which reads YAML 1.1."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        return float(value)
    return value


# A float that may be written in any of YAML's ways; never true, 'abc', nan or null (strict mode and allow_inf_nan).
Number = Annotated[float, BeforeValidator(_number_from_yaml_1_2)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]


class Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


StageParams = TypeVar("StageParams", bound=Schema)


def load(schema: type[StageParams], path: Path = PARAMS_FILE) -> StageParams:
    """Read `path`, check all of it, and return the part that `schema` names.

    Raises UserError naming every problem: unknown, missing, mistyped and out-of-range keys.
    """
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
    whole = all_params()
    try:
        params = whole.model_validate({str(key): value for key, value in content.items()})
    except ValidationError as error:
        problems = [_explain(problem["type"], problem, content, whole.model_fields) for problem in error.errors()]
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise UserError(
            f"{path}: {count}\n" + "\n".join(f"  {line}" for line in problems) + f"\nCorrect {path}; "
            f"`git checkout {path}` restores the committed values, also after `dvc exp run -S`."
        ) from None
    return schema.model_validate({name: getattr(params, name) for name in schema.model_fields})


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
    if kind == "regular_expression":
        return f"{key}: expected a regular expression; got {json.dumps(problem['input'])}: {problem['msg']}"
    expected = problem["msg"].removeprefix("expected ") if kind == "unknown_model" else _expectation(field)
    return f"{key}: expected {expected}; got {json.dumps(problem['input'], default=str)}"


def _expectation(field: FieldInfo) -> str:
    """The field's type and range in words, from the same annotations that check it."""
    if get_origin(field.annotation) is list:
        return "a list of arguments, such as [torchrun, --standalone, --nproc-per-node, 2]"
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
