"""Users' mistakes end in one message, programming errors in a traceback."""

import errno
import sys
from pathlib import Path

import pytest

from stages.common.errors import UserError, listed, run_main
from tests.project import ROOT, run


def ending(error: BaseException) -> object:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    return caught.value.code


def test_a_users_mistake_is_one_message() -> None:
    assert ending(UserError("lr: too large")) == "error: lr: too large"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_what_the_machine_refuses_is_one_message(code: int) -> None:
    assert str(ending(OSError(code, "refused", "models/model.json"))).startswith("error: models/model.json: refused")


def test_a_name_in_a_message_stays_in_its_place() -> None:
    """It moves no cursor and sets no title; where lines are listed, it makes none."""
    name = "a\x1b]0;t\x07\u202e\r"
    assert ending(UserError(f"{name}: no\n{listed([name + chr(10) + 'error: b'])}")) == (
        "error: a\\x1b]0;t\\x07\\u202e\\r: no\n  a\\x1b]0;t\\x07\\u202e\\r\\nerror: b"
    )


def test_interruption_has_the_shells_exit_code() -> None:
    assert ending(KeyboardInterrupt()) == 130


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.ENOENT, "bug", "file")])
def test_a_programming_error_keeps_its_traceback(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run_main(main)


def test_the_rank_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several processes; the first one's message stands as if it were alone."""
    monkeypatch.setenv("RANK", "0")
    assert ending(UserError("no")) == "error: no"
    monkeypatch.setenv("RANK", "3")
    assert ending(UserError("no")) == "error (rank 3): no"


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1"])
def test_an_8_bit_locale(tmp_path: Path, encoding: str) -> None:
    """What it cannot show fails nothing, and names of files are those that everybody reads."""
    (tmp_path / "猫").touch()
    (tmp_path / "program.py").write_text(
        "import os, sys\n"
        "from stages.common.errors import UserError, run_main\n"
        "def main():\n"
        "    print('→', '猫' in os.listdir())\n"
        "    print('→', file=sys.stderr)\n"
        "    raise UserError('猫')\n"
        "run_main(main)",
        encoding="utf-8",
    )
    done = run(
        [sys.executable, "program.py"],
        tmp_path,
        expect=1,
        LC_ALL="POSIX",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONIOENCODING=encoding,
        PYTHONPATH=str(ROOT),
    )
    assert done.stdout == "\\u2192 True\n"
    assert done.stderr == "\\u2192\nerror: \\u732b\n"


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    """As `| head` goes: an exit code, and no complaint."""
    program = (
        "from stages.common.errors import run_main\n"
        "def main():\n    for _ in range(10**6): print('line')\n"
        "run_main(main)"
    )
    done = run(f'{{ {sys.executable} -c "{program}"; echo $? >code; }} | head -n 1', tmp_path, PYTHONPATH=str(ROOT))
    assert (done.stdout, done.stderr) == ("line\n", "")
    assert (tmp_path / "code").read_text() == "1\n"
