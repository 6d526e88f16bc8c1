"""`make install`: what it refuses, and that it does nothing where nothing is to be done. A whole install, which takes
minutes and gigabytes, is what `make test` itself begins with."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from scripts import install
from tests.project import BIN, ROOT, refusal, run

INSTALL = [sys.executable, "scripts/install.py"]


@pytest.fixture
def without_venv(clone: Path) -> Path:
    (clone / ".venv").unlink()
    return clone


def test_a_second_install_does_nothing(clone: Path) -> None:
    stamp = ROOT / ".venv" / "installed"
    before = stamp.stat().st_mtime_ns
    assert run("make install", clone).stdout == ""
    assert stamp.stat().st_mtime_ns == before


def test_a_venv_made_by_another_python(without_venv: Path) -> None:
    venv = without_venv / ".venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.5.2\n")
    text = refusal(run(["make", "repro"], without_venv, expect=2))
    assert ".venv was made by Python 3.5, but this is Python 3." in text
    assert "make PYTHON=python3.5" in text
    assert [path.name for path in venv.iterdir()] == ["pyvenv.cfg"]


def test_a_venv_whose_python_is_gone(without_venv: Path) -> None:
    venv = without_venv / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"version = {sys.version_info[0]}.{sys.version_info[1]}.0\n")
    (venv / "bin" / "python").symlink_to("/nonexistent/python")
    assert ".venv/bin/python does not run" in refusal(run(INSTALL, without_venv, expect=1))


def test_a_venv_that_was_copied_from_another_folder(without_venv: Path) -> None:
    venv = without_venv / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text((ROOT / ".venv" / "pyvenv.cfg").read_text())
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "installed").write_text((ROOT / ".venv" / "installed").read_text())
    assert f".venv was made for {(ROOT / '.venv').resolve()}" in refusal(run(INSTALL, without_venv, expect=1))


def test_a_subfolder_of_another_repository(without_venv: Path) -> None:
    """Refused by make; by programs of an image, which has no .venv to install; and nothing is written."""
    (without_venv / ".git").rename(without_venv.parent / ".git")
    before = run("git status --porcelain", without_venv).stdout
    said = refusal(run(["make", "repro"], without_venv, expect=2))
    assert (
        f"{without_venv} is a subfolder of the Git repository {without_venv.parent}; expected a repository of" in said
    )
    for module in (["scripts.repro"], ["review", "summary"]):
        assert "expected a repository of its own" in refusal(
            run([BIN / "python", "-m", *module], without_venv, expect=1)
        )
    assert run("git status --porcelain", without_venv).stdout == before


def test_no_write_permission(without_venv: Path) -> None:
    """Root may write anywhere, so as root the right to override permissions is dropped first."""
    drop = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("runs as root, and there is no setpriv to drop root's right to write everywhere")
        drop = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]
    without_venv.chmod(0o555)
    try:
        text = refusal(run([*drop, "make", "repro"], without_venv, expect=2))
    finally:
        without_venv.chmod(0o755)
    assert f"{without_venv}: no write permission" in text
    assert not (without_venv / ".venv").exists()


def test_an_old_python(clone: Path) -> None:
    """An interpreter that is too old gets as far as the message."""
    candidates = [shutil.which(f"python3.{minor}") for minor in (10, 9, 8, 7, 6)]
    found = [path for path in candidates if path and run_quietly(path)]
    if not found:
        pytest.skip("no Python older than 3.11 on this machine")
    assert "the project needs 3.11 or newer" in refusal(run([found[0], "scripts/install.py"], clone, expect=1))


def run_quietly(python: str) -> bool:
    try:
        run([python, "-c", ""], ROOT)
    except AssertionError:  # a version manager's stand-in for a version that is not selected
        return False
    return True


def test_no_network(without_venv: Path, tmp_path: Path) -> None:
    """pip's message stands above ours, what is there is kept, and the exit code says that it failed."""
    unreachable = "http://127.0.0.1:9/simple"
    done = run(
        INSTALL,
        without_venv,
        expect=1,
        PIP_INDEX_URL=unreachable,
        PIP_EXTRA_INDEX_URL=unreachable,
        PIP_RETRIES="0",
        PIP_NO_CACHE_DIR="1",
        PIP_CONFIG_FILE=os.devnull,
        PIP_FIND_LINKS=str(tmp_path),
    )
    assert "Check the network" in done.stderr
    assert "Traceback" not in done.stderr
    assert (without_venv / ".venv" / "pyvenv.cfg").exists()
    assert not (without_venv / ".venv" / "installed").exists()


@pytest.mark.parametrize(
    ("package", "hashes", "expected"),
    [("uv", " --hash=sha256:" + "0" * 64, "DO NOT MATCH THE HASHES"), ("tqdm", "", "tqdm")],
)
def test_packages_are_hash_checked(without_venv: Path, package: str, hashes: str, expected: str) -> None:
    """What requirements.lock does not vouch for stays out: uv, which pip installs, and the rest, which uv installs."""
    lock = without_venv / "requirements.lock"
    text, changes = re.subn(rf"^({package}==\S+)( \\\n +--hash=\S+)+", rf"\g<1>{hashes}", lock.read_text(), flags=re.M)
    assert changes == 1
    lock.write_text(text)
    done = run(INSTALL, without_venv, expect=1)
    assert expected in done.stdout + done.stderr
    assert not (without_venv / ".venv" / "installed").exists()


@pytest.mark.slow
def test_the_notebook_packages_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash-checked, once, and again after .venv was made anew; with one small package of the lock in place of all."""
    venv, lock = tmp_path / ".venv", tmp_path / "requirements-jupyter.lock"
    run([sys.executable, "-m", "venv", "--without-pip", venv], tmp_path)
    for name, value in (("VENV", venv), ("STAMP", venv / "installed"), ("NOTEBOOK_STAMP", venv / "notebook-installed")):
        monkeypatch.setattr(install, name, str(value))
    monkeypatch.setattr(install, "NOTEBOOK_LOCK", str(lock))
    (site_packages,) = venv.glob("lib/python3*/site-packages")
    # uv itself, which `make install` puts there.
    (packages,) = (ROOT / ".venv").glob("lib/python3*/site-packages")
    (site_packages / "packages.pth").write_text(f"{packages}\n")
    (pinned,) = re.findall(r"^webcolors==.*?(?=^\S)", (ROOT / "requirements-jupyter.lock").read_text(), re.M | re.S)
    (venv / "installed").write_text("first")
    lock.write_text(re.sub("sha256:.{8}", "sha256:00000000", pinned))
    with pytest.raises(SystemExit):
        install.add_notebook()
    assert not (site_packages / "webcolors").exists()
    lock.write_text(pinned)
    install.add_notebook()
    assert (site_packages / "webcolors").is_dir()
    shutil.rmtree(site_packages / "webcolors")
    install.add_notebook()
    assert not (site_packages / "webcolors").exists()
    (venv / "installed").write_text("second")
    for info in site_packages.glob("webcolors-*"):
        shutil.rmtree(info)
    install.add_notebook()
    assert (site_packages / "webcolors").is_dir()


def test_programs_are_found_without_activation(clone: Path) -> None:
    """A process of .venv/bin/python finds .venv's programs first on its PATH, once."""
    code = "import os; print(os.environ['PATH'])"
    path = run([BIN / "python", "-c", code], clone, PATH="/usr/bin:/bin").stdout.strip()
    assert re.fullmatch(r".*/\.venv/bin:/usr/bin:/bin", path)
    assert run([BIN / "python", "-c", code], clone, PATH=path).stdout.strip() == path


def test_a_python_without_the_packages_is_told(clone: Path, tmp_path: Path) -> None:
    """A dvc that is not .venv's may start a stage with another Python."""
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], tmp_path)
    text = refusal(run([tmp_path / "bare" / "bin" / "python", "-m", "stages.prepare"], clone, expect=1))
    assert "does not have the project's packages" in text
    assert "make install" in text


def test_make_alone_lists_the_targets(clone: Path) -> None:
    listed = [line.split()[1] for line in run("make", clone).stdout.splitlines()]
    declared = re.findall(r"^([\w-]+):", (clone / "Makefile").read_text(), re.M)
    assert listed == declared
    assert {"repro", "test"} <= set(listed)
