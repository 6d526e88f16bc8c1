"""The rule for names."""

import os

import pytest

from stages.common.names import why_refused


@pytest.mark.parametrize("name", ["cats and dogs", "Straße 7", "猫", "قطة", "a&b|c`d*", "-x", "..", "a/b.png", ""])
def test_names_that_people_give(name: str) -> None:
    assert why_refused(name) == ""


@pytest.mark.parametrize(
    "character", "\0\n\r\t\x0b\x0c\x1b\x1c\x1d\x1e\x7f\x85\u2028\u2029\u061c\u200e\u202a\u202e\u2066\u2069<"
)
def test_names_that_read_as_something_else(character: str) -> None:
    reason = why_refused(f"a{character}b")
    assert reason
    assert reason.isprintable()


def test_bytes_that_are_not_utf_8() -> None:
    assert "not UTF-8" in why_refused(os.fsdecode(b"a\xffb"))
