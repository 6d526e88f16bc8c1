"""What each start of .venv's Python sets: a site cache for DVC that nobody else can write."""

import os
from pathlib import Path

import pytest

from scripts import startup


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """home/ and tmp/ in a folder, named by the environment, which is put back."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    for name, value in {"HOME": "home", "TMPDIR": "tmp"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")
    return tmp_path


def chosen() -> Path:
    os.environ["DVC_SITE_CACHE_DIR"] = ""
    startup.use_private_site_cache()
    return Path(os.environ["DVC_SITE_CACHE_DIR"])


def test_below_the_users_cache(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask; $XDG_CACHE_HOME goes before ~/.cache, unless it is relative."""
    before = os.umask(0)
    try:
        assert chosen() == homes / "home/.cache/dvc-site"
    finally:
        os.umask(before)
    assert chosen().stat().st_mode & 0o777 == 0o700
    assert chosen().parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(homes / "xdg"))
    assert chosen() == homes / "xdg/dvc-site"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert chosen() == homes / "home/.cache/dvc-site"
    os.environ["DVC_SITE_CACHE_DIR"] = "own"
    startup.use_private_site_cache()
    assert os.environ["DVC_SITE_CACHE_DIR"] == "own"


@pytest.mark.parametrize("kind", ["link", "open", "file", "other user", "no home"])
def test_a_place_that_others_can_write(
    homes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The next is taken; where that is no better, DVC gets none, and it is said."""
    second = homes / "tmp" / f"dvc-site-{os.geteuid()}"
    (homes / "home/.cache").mkdir()
    for place in (homes / "home/.cache/dvc-site", second):
        if kind == "link":
            (homes / place.name).mkdir()
            place.symlink_to(homes / place.name)
        elif kind == "open":
            place.mkdir()
            place.chmod(0o770)
        elif kind == "file":
            place.touch()
        elif kind == "other user":
            if os.geteuid() != 0:
                pytest.skip("only root can give a folder away")
            place.mkdir(mode=0o700)
            os.chown(place, 12345, 12345)
        else:
            monkeypatch.setenv("HOME", "/dev/null")
        if place != second:
            assert chosen() == second
            assert second.stat().st_mode & 0o777 == 0o700
            second.rmdir()
            assert capsys.readouterr().err == ""
    if kind != "no home":
        assert chosen() == Path("/dev/null/dvc-site")
        assert str(second) in capsys.readouterr().err
