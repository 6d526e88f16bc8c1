"""YAML in the plain form in which DVC writes dvc.lock, and people params.yaml, read a line at a time: for those
of a thousand experiments, PyYAML takes several seconds.

What it reads, it reads as parse_yaml does, by which each kind of line that it has not met is read. It takes one mapping
of lines `key: value`, `key:` with a block below, and `- item`, each in its place; all else, such as a value of several
lines, an anchor or a key that is given twice, is left to parse_yaml as a whole.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from stages.common.documents import DocumentError, parse_yaml

# In characters: what so many have in them is within parse_yaml's limits, which count values.
_MOST = 150_000
_DEEPEST = 8
# Characters that are no line break and no control to any version of YAML.
_UNUSUAL = re.compile(r"[^\n -~\xa0-\u2027\u2030-\ud7ff]")
_LINE = re.compile(r"( *)(- )?(?:([A-Za-z_][\w./-]*):)?(?:(?(3) )(?![ -]*$)(\S.*))?", re.ASCII)
# Values that stand for themselves: a digest with a letter that no number has, and a whole number.
_DIGEST = re.compile(r"(?=[0-9e]*[a-df])[0-9a-f]{32}(?:\.dir)?")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
# Quoted, or a list or mapping on one line with none inside; else plain, and not what begins something else.
_VALUE = re.compile(r"""'[^']*'|"[^"\\]*"|\[[^][{}]*\]|\{[^][{}]*\}|[\w./+-].*""", re.ASCII)


class _OtherForm(Exception):  # noqa: N818  # it is no mistake
    """The text is not of the plain form."""


def parse(content: bytes) -> Any:
    """What parse_yaml gives of a YAML file. Raises DocumentError."""
    try:
        text = content.decode("utf-8")
        if len(text) > _MOST or _UNUSUAL.search(text):
            raise _OtherForm
        lines = _Lines(text)
        mapping = lines.mapping(0, 0)
        if lines.place < len(lines.found):
            raise _OtherForm
    except (UnicodeDecodeError, _OtherForm, DocumentError):
        return parse_yaml(content)
    return mapping


class _Line(NamedTuple):
    """How far a line is indented, whether it begins an item, its key, and its value unless a block below is that."""

    indent: int
    dash: bool
    key: str | None
    has_value: bool
    value: Any


_END = _Line(-1, False, None, False, None)


class _Lines:
    """The lines, and which is the next."""

    def __init__(self, text: str) -> None:
        # A comment ends a plain value, and what stands in several lines is left to parse_yaml.
        self.found = [_line(line) for line in text.split("\n") if line and line[0] != "#"]
        self.place = 0

    def next(self) -> _Line:
        return self.found[self.place] if self.place < len(self.found) else _END

    def mapping(self, indent: int, depth: int) -> dict[str, Any]:
        """The block that begins at the next line, whose keys are indented by `indent`."""
        made: dict[str, Any] = {}
        while True:
            here, dash, key, has_value, value = self.next()
            # In a list's item, the first key follows the dash.
            if dash and not made and here == indent - 2:
                here, dash = indent, False
            if here < indent or (dash and here == indent):
                break
            if here > indent or dash or key is None or key in made:
                raise _OtherForm
            self.place += 1
            made[key] = _own(value) if has_value else self._below(indent, depth)
        if not made:
            raise _OtherForm
        return made

    def _below(self, indent: int, depth: int) -> Any:
        here, dash, *_ = self.next()
        if depth == _DEEPEST or here < indent or (here == indent and not dash):
            raise _OtherForm
        return self._items(here, depth + 1) if dash else self.mapping(here, depth + 1)

    def _items(self, indent: int, depth: int) -> list[Any]:
        made: list[Any] = []
        while (line := self.next())[:2] == (indent, True):
            if line.key is not None:
                made.append(self.mapping(indent + 2, depth + 1))
            elif line.has_value:
                self.place += 1
                made.append(_own(line.value))
            else:
                raise _OtherForm
        if line.indent > indent:
            raise _OtherForm
        return made


def _own(value: Any) -> Any:
    """For one reader alone: a line's value is that of all lines alike."""
    return value.copy() if isinstance(value, list | dict) else value


# Of many experiments, most lines are alike.
@lru_cache(maxsize=20_000)
def _line(text: str) -> _Line:
    """Raises DocumentError, or _OtherForm where it is no line of the plain form."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise _OtherForm
    spaces, dash, key, value = match.groups()
    if key is not None and _key(key) != key:
        raise _OtherForm
    return _Line(len(spaces), dash is not None, key, value is not None, None if value is None else _value(value))


def _value(text: str) -> Any:
    """A value that stands in one line. Raises DocumentError, or _OtherForm where it is more than that."""
    if _DIGEST.fullmatch(text):
        return text
    if _NUMBER.fullmatch(text):
        return int(text)
    if not _VALUE.fullmatch(text):
        raise _OtherForm
    parsed = parse_yaml(f"a: {text}\n".encode())
    if not isinstance(parsed, dict) or parsed.keys() != {"a"}:
        raise _OtherForm
    return parsed["a"]


@lru_cache(maxsize=20_000)
def _key(text: str) -> Any:
    """A key as parse_yaml reads it. Raises DocumentError."""
    (key,) = parse_yaml(f"{text}: 0\n".encode())
    return key
