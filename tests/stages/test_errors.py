"""Users' mistakes end in one message, programming errors in a traceback."""

import errno

import pytest

from stages.errors import UserError, run_main


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


def test_interruption_has_the_shells_exit_code() -> None:
    assert ending(KeyboardInterrupt()) == 130


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.ENOENT, "bug", "file")])
def test_a_programming_error_keeps_its_traceback(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run_main(main)
