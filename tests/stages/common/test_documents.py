"""YAML, JSON and TOML of anybody: plain data is read, everything else is refused in one line and at once."""

import pytest

from stages.common.documents import DocumentError, parse_json, parse_toml, parse_yaml

_TENS = ",".join(["{}"] * 10)
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{_TENS.format(*[f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{_TENS.format(*[f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)


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
