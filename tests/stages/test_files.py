"""Files appear whole or not at all."""

import math
from pathlib import Path

import pytest

from stages.errors import UserError
from stages.files import read_json, replacing, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 0.5})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path, "") == {"accuracy": 0.5}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_no_nan_in_json(tmp_path: Path) -> None:
    """A figure that is not a number is a programming error, not something to store."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "result.json", {"loss": math.nan})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("content", "expected"), [("{", "not readable as JSON"), ("[1]", "expected a JSON object")])
def test_what_is_not_such_json(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(UserError, match=expected):
        read_json(path, "Make it.")
    path.unlink()
    with pytest.raises(UserError, match=r"no such file\. Make it\."):
        read_json(path, "Make it.")
