"""One reading and writing of CSV: a name is the same on both sides, and what is no such table is refused."""

import io
from pathlib import Path

import pytest

from stages.common import tables

# What one reader or another takes for the end of a line or of a field, and what begins a formula or a quote.
NAMES = ["a,b", 'a"b', "a\nb", "a\rb", "a\r\nb", "\x85", "\u2028", "\x0b\x0c\x1c", "\ufeff", "\0", " a ", "", "'", "ä"]


def test_names_come_back(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    tables.write(path, ["name", "other, one"], ([name, "x"] for name in NAMES))
    assert [row["name"] for row in tables.parse(path.read_bytes(), ["name"])] == NAMES
    assert {row["other, one"] for row in tables.parse(path.read_bytes())} == {"x"}


def test_a_failed_write_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    tables.write(path, ["a"], [["1"]])
    with pytest.raises(ZeroDivisionError):
        tables.write(path, ["a"], ([str(1 // number)] for number in (1, 0)))
    assert path.read_bytes() == b"a\n1\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "got an empty file"),
        (b"b\n1\n", "no column a; expected the columns a, got b"),
        (b"a,a\n1,2\n", "the column a is there twice"),
        (b"\xef\xbb\xbfa\n1\n", "no column a"),
        (b"a\n1,2\n", "line 2 has other than 1 values"),
        (b"a,b\n1\n", "line 2 has other than 2 values"),
        (b'a\n"1\n', "unexpected end of data"),
        (b'a\n"1"2\n', "expected after"),
        (b"a\n\xff\n", "utf-8"),
        (b"a\n" + b"x" * 200_000 + b"\n", "line 2 has more than 131,072 characters"),
    ],
)
def test_what_is_no_such_table(content: bytes, expected: str) -> None:
    with pytest.raises(tables.TableError, match=expected):
        tables.parse(content, ["a"])


def test_rows_are_read_as_they_are_asked_for() -> None:
    """Those of another length are told apart, with their lines, and the rest is read."""
    rows = tables.Rows(io.StringIO("a,b\n1,2\n3\n\n4,5\n", newline=""), ["a"], ["b"])
    assert [(rows.line, row and row["a"]) for row in rows] == [(2, "1"), (3, None), (5, "4")]
    with pytest.raises(tables.TableError, match="expected the columns a, got a, b"):
        tables.Rows(io.StringIO("a,b\n"), ["a"], [])
