"""Files appear whole or not at all."""

import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.common.files import read_json, replacing, replacing_folder, require_writable, write_json
from tests.project import ROOT


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 0.5})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path, "") == {"accuracy": 0.5}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_reader_sees_the_whole_old_file_or_the_whole_new_one(tmp_path: Path) -> None:
    """The new content is another file under the same name: whoever has the old one open still reads all of it."""
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 0.5})
    with path.open() as reader:
        write_json(path, {"accuracy": 0.75})
        assert json.loads(reader.read()) == {"accuracy": 0.5}
    assert read_json(path, "") == {"accuracy": 0.75}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """By the next write of the same file; not what is being written, nor what only has such a name."""
    path = tmp_path / "result.json"
    killed = "from pathlib import Path; from stages.common.files import replacing; import os, sys\n"
    killed += "with replacing(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, path], cwd=ROOT)
    (left,) = tmp_path.iterdir()
    with replacing(path) as writing:
        others = [tmp_path / f".result.json.{name}.tmp" for name in ("mine", "0" * 15)]
        for file in (left, writing, *others):
            file.touch()
            os.utime(file, (0, 0))
        write_json(path, {"a": 1})
        assert set(tmp_path.iterdir()) == {path, writing, *others}
        assert not left.exists()


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


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What a killed run left is cleared away; a failure leaves the old folder; success leaves nothing of it."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / "old").touch()
    with suppress(RuntimeError), replacing_folder(folder, ["old"]) as temporary:
        (temporary / "killed").mkdir()
        shutil.copytree(temporary, tmp_path / "killed")
        raise RuntimeError
    (tmp_path / "killed").rename(tmp_path / ".prepared.tmp")
    with pytest.raises(RuntimeError), replacing_folder(folder, ["old"]) as temporary:
        assert not (temporary / "killed").exists()
        (temporary / "half").mkdir()
        raise RuntimeError
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["prepared", "prepared/old"]
    with replacing_folder(folder, ["old"]) as temporary:
        (temporary / "new").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["prepared", "prepared/new"]


@pytest.mark.parametrize("what", ["a file", "a folder", "a link", "a temporary folder", "a file that comes later"])
def test_a_folder_that_is_somebodys_stays(tmp_path: Path, what: str) -> None:
    """Whatever has the place of a folder that is to be replaced."""
    folder = tmp_path / "prepared"
    somebodys = {"a link": tmp_path / "theirs", "a temporary folder": tmp_path / ".prepared.tmp"}.get(what, folder)
    somebodys.mkdir()
    (somebodys / "old").mkdir() if what == "a folder" else (somebodys / "old").touch()
    if what == "a file":
        (folder / "thesis").touch()
    if what == "a link":
        folder.symlink_to(somebodys)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="Move it away"), replacing_folder(folder, ["old"]):
        (folder / "thesis").touch()
    before += [folder / "thesis"] if what == "a file that comes later" else []
    assert sorted(tmp_path.rglob("*")) == before


def test_no_link_is_written_through(tmp_path: Path) -> None:
    """Neither at the file's place nor at that of a temporary one."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "result.json").symlink_to("precious")
    (tmp_path / f".result.json.{os.getpid()}.tmp").symlink_to("precious")
    require_writable(tmp_path / "result.json")
    write_json(tmp_path / "result.json", {})
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "result.json").is_symlink()


def test_what_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    require_writable(tmp_path / "models" / "weights")
    assert not any((tmp_path / "models").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: expected a folder, got a file"):
        require_writable(tmp_path / "file" / "weights")
