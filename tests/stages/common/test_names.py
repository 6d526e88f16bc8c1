"""The rule for names."""

import os

import pytest

from stages.common.names import look, why_no_class, why_not_within, why_refused


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


@pytest.mark.parametrize("name", ["猫", "می\u200cخواهم", "क्\u200dष", "❤\ufe0f", "👩\u200d🔬", "сова", "IFNγ"])
def test_class_names_that_people_give(name: str) -> None:
    assert why_no_class(name) == ""
    assert look(name) != look("cat")


@pytest.mark.parametrize("character", "\u00ad\u034f\u180e\u200b\u200c\u200d\u2060\u2063\u3164\ufe0f\ufeff\U000e0041")
def test_what_is_not_seen_in_a_class_name(character: str) -> None:
    assert "which is not seen" in why_no_class(f"ca{character}t")
    assert look(f"ca{character}t") == look("Cat")


def test_bytes_that_are_not_utf_8() -> None:
    assert "not UTF-8" in why_refused(os.fsdecode(b"a\xffb"))


@pytest.mark.parametrize(
    "path", ["a", "a/b c/d.png", ".hidden", "git", "a.git", "dvc.yaml", "..a", "a..", "猫/.gitignore"]
)
def test_paths_within_a_folder(path: str) -> None:
    assert why_not_within(path) == ""


@pytest.mark.parametrize(
    "path",
    [
        *("", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\nb", "a" * 256, "猫" * 86, "a/" * 1501 + "a"),
        *(".git", "a/.Git/x", ".git.", ".git ", ".git::$DATA", "GIT~1", ".g\u200cit", ".dvc/config"),
    ],
    ids=lambda path: ascii(path[:20]),
)
def test_paths_that_lead_out_or_into_settings(path: str) -> None:
    reason = why_not_within(path)
    assert reason
    assert reason.isprintable()
