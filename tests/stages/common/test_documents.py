"""YAML, JSON and TOML of anybody: plain data is read, everything else is refused in one line and at once."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import loads_yaml

from stages.common.documents import DocumentError, parse_json, parse_toml, parse_yaml
from stages.common.yaml12 import dump_yaml

_TENS = ",".join(["{}"] * 10)
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{_TENS.format(*[f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{_TENS.format(*[f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)


# Plain scalars whose meaning depends on who reads them.
SPELLINGS = """
    1e-2 1E-5 0.00005 1e5 1E+5 1.e5 .5e3 -.5e-3 +1e-2 1.0e-05 1. .5 -.5 +.5 1.5e3 1_0e5 1e1_0 1e 1e+ . 1.2.3 1e400 1e5.5
    0 -0 +1 -1 007 08 010 -010 +010 0777 0o10 -0o10 0O10 0o8 0o 0x1F -0x1f 0X1F 0x 0b11 -0b1_1 0b12 0b 1_000 1__0 _1 1_
    1_000.5 ._5 -_1 0x_1F 0o1_0 1,000 12:30:00 12:30 190:20:30.15 yes no on off Yes NO y N true True TRUE tRUE false
    FALSE null Null NULL ~ nULL .inf -.inf +.Inf .nan .NaN .iNF inf nan Infinity 2001-12-14
    2001-12-14T21:59:43.10-05:00 2001-12-14t21:59:43Z 2001-1-1 '1e-2' "010" a-1 1a
""".split()


@pytest.mark.parametrize("form", ["a: {}", "{}: a", "[{}]", "{}"])
def test_yaml_is_dvcs(form: str) -> None:
    """One dialect: what a stage computes with is what DVC compares and writes into dvc.lock."""
    for spelling in SPELLINGS:
        text = form.format(spelling)
        if form == "{}: a" and type(loads_yaml(spelling)) not in (str, int):
            continue  # refused here
        assert repr(_in_utc(parse_yaml(text.encode()))) == repr(_in_utc(loads_yaml(text))), text


def _in_utc(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC)
        case list():
            return [_in_utc(below) for below in value]
        case dict():
            return {key: _in_utc(below) for key, below in value.items()}
    return value


def test_yaml_written_is_read_alike_everywhere() -> None:
    """Each spelling as a text, and each number, comes back from DVC's reader, from ours and from YAML 1.1's."""
    values = [*SPELLINGS, *(0.01, 1e-5, 1e22, 8, -10, True, None, float("inf"))]
    text = dump_yaml(values)
    assert parse_yaml(text.encode()) == loads_yaml(text) == yaml.safe_load(text) == values


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[" * 1_000_000, "nested more than 64"),
        (b"- " * 100_000 + b"a", "nested more than 64"),
        (BOMB.encode(), "more than 200,000 values"),
        (MERGES.encode(), "more than 200,000 values"),
        (b"a: &x [*x]", "alias 'x'"),
        (b"a: *x", "alias 'x'"),
        (b"a: 1\na: 2", "key 'a' is given twice"),
        (b"a: !!python/object/apply:os.system [id]", "expected plain data"),
        (b"a: !!timestamp x", "expected plain data"),
        (b"a: !!bool x", "expected plain data"),
        (b"a: " + b"9" * 5000, "4300 digits"),
        (b"a: 99999999999999999999", "more than 64 bits"),
        (b"a: 2001-99-99", "month must be in"),
        (b"? [a]\n: 1", "unhashable key"),
        (b"1: a\nb: c", "keys are not all texts"),
        (b"a: 1\n---\nb: 2", "expected a single document"),
        (b"a: [b", "expected ',' or ']'"),
        (b"%YAML 1.1\n---\na: 010", "by which numbers are other ones"),
        (b"a: -_", "invalid literal for int"),
        (b"\xff", "'utf-8' codec"),
        (b"a: \x1b", "control characters are not allowed"),
        (b"x" * (5 << 20), "bytes; expected"),
    ],
)
def test_yaml_refused(content: bytes, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected) as caught:
        parse_yaml(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 100 + b"]" * 100, "nested more than 64"),
        (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1e999}', "1e999 is no number"),
        (b"9" * 5000, "4300 digits"),
        (b'"\\ud800"', r"U\+D800, which UTF-8 does not have"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("{}".encode("utf-16"), "'utf-8' codec"),
        (b"", "Expecting value"),
        (b"[" + b"0," * 300_000 + b"0]", "more than 200,000 values"),
    ],
)
def test_json_refused(content: bytes, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected):
        parse_json(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = " + b"[" * 10_000, "nested"),
        (b"a = 1\na = 2", "overwrite"),
        (b"\xff", "utf"),
    ],
)
def test_toml_refused(content: bytes, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected):
        parse_toml(content)


def test_plain_data_is_read() -> None:
    """Anchors that stay small are plain too, and so are empty files."""
    assert parse_yaml(b"a: &x {b: 1}\nc: {<<: *x, d: 2}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
    assert parse_yaml(b"") is None
    assert parse_json(b'{"a": [1, 0.5, "\\u0085"]}') == {"a": [1, 0.5, "\x85"]}
    assert parse_toml(b"a = { b = [1] }") == {"a": {"b": [1]}}
