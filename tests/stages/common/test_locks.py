"""Locks of files, and what is said where a file system has none."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.common.locks import try_lock, why_no_locks
from stages.train.checkpoint import Store


def test_one_has_it(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as one, (tmp_path / "lock").open() as other:
        assert try_lock(one)
        assert not try_lock(other)
    assert why_no_locks(tmp_path) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """One of this kind cannot be had here. Training says so before it begins, and what to do."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    with pytest.raises(UserError, match=r"its file system has no locks .* Set CHECKPOINT_DIR"), Store("x").locked():
        pass
