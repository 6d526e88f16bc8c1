"""Reading YAML, JSON and TOML that may come from anybody: what is not plain data of ordinary size is refused.

Plain data: texts, numbers, true, false, null, dates, lists, and mappings whose keys are texts or integers, each given
once. Nothing here constructs other objects, and the work is bounded by limits that no honest file comes near.
"""

import datetime
import json
import math
import tomllib
from collections.abc import Callable
from typing import Any

from stages.common.names import why_not_text

# In bytes. tomllib takes 3 s for a megabyte of the worst kind, PyYAML with libyaml 2 s for its limit.
_YAML_BYTES, _JSON_BYTES, _TOML_BYTES = 4 << 20, 16 << 20, 256 << 10
_DEPTH = 64
# Values, those behind YAML's aliases counted once for each alias.
_VALUES = 200_000
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_REASON = 300


class DocumentError(ValueError):
    """Why a content is no such document, in one line."""


def parse_yaml(content: bytes) -> Any:
    """The one document of a YAML file, as DVC reads it. Raises DocumentError."""
    # Imported here: what reads JSON alone, such as the service, has no PyYAML.
    from stages.common.yaml12 import load_bounded

    return _parse(lambda text: load_bounded(text, _DEPTH, _VALUES), content, _YAML_BYTES)


def parse_json(content: bytes) -> Any:
    """A JSON text. NaN and infinity, which JSON does not have, are refused. Raises DocumentError."""
    return _parse(_load_json, content, _JSON_BYTES)


def parse_toml(content: bytes) -> Any:
    """A TOML file. Raises DocumentError."""
    return _parse(tomllib.loads, content, _TOML_BYTES)


def _parse(load: Callable[[str], Any], content: bytes, most: int) -> Any:
    try:
        if len(content) > most:
            raise DocumentError(f"{len(content):,} bytes; expected {most:,} at most")
        document = load(content.decode("utf-8"))
        _require_plain(document)
    except RecursionError:
        raise DocumentError("nested too deeply") from None
    except (ValueError, OverflowError) as error:
        # PyYAML's messages have several lines.
        raise DocumentError(" ".join(str(error).split())[:_LONGEST_REASON]) from None
    return document


def _load_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


def _require_plain(document: Any) -> None:
    """ValueError where a value is not plain data, or where there are too many, too deep."""
    count = 0
    level = [document]
    for depth in range(_DEPTH + 2):
        count += len(level)
        if count > _VALUES:
            raise ValueError(f"more than {_VALUES:,} values")
        below: list[Any] = []
        for value in level:
            match value:
                case None | bool() | float() | datetime.date():
                    pass
                case str():
                    if reason := why_not_text(value):
                        raise ValueError(f"a text holds {reason}")
                case int():
                    if abs(value) > _LARGEST_INTEGER:
                        raise ValueError("an integer of more than 64 bits")
                case list():
                    below += value
                case dict():
                    if len({type(key) for key in value}) > 1 or any(type(key) not in (str, int) for key in value):
                        raise ValueError("a mapping whose keys are not all texts, or all integers")
                    below += [key for key in value if isinstance(key, str)]
                    below += value.values()
                case _:
                    raise ValueError(f"a value of type {type(value).__name__}")
        if not below:
            return
        level = below
        if depth > _DEPTH:
            raise ValueError(f"nested more than {_DEPTH} levels deep")
