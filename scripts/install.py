"""Make .venv hold exactly the packages of requirements.lock: `make install`. Standard library only.

Does nothing, in milliseconds, where that is already so. With the argument `notebook`, those of
requirements-jupyter.lock are added, and stay until requirements.lock changes: `make notebook`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
NOTEBOOK_LOCK = os.path.join(ROOT, "requirements-jupyter.lock")
STARTUP = os.path.join(ROOT, "scripts", "startup.py")
STAMP = os.path.join(VENV, "installed")
NOTEBOOK_STAMP = os.path.join(VENV, "notebook-installed")
OLDEST_PYTHON = (3, 11)


def main() -> None:
    # No newer syntax in this file: an old Python 3 must get as far as this message.
    if sys.version_info < OLDEST_PYTHON:
        fail(
            "this is Python %d.%d (%s); the project needs %d.%d or newer.\n"
            "Name another one: make install PYTHON=/path/to/python3"
            % (sys.version_info[:2] + (sys.executable,) + OLDEST_PYTHON)
        )
    require_top_level()
    if not os.access(ROOT, os.W_OK):
        fail("%s: no write permission. The environment, the data and the results are written there." % ROOT)
    wanted = "%s %s" % (digest(LOCK, os.path.abspath(__file__), STARTUP), os.path.realpath(VENV))
    check_venv()
    if read(STAMP) != wanted:
        install_project()
        write(STAMP, wanted)
    if sys.argv[1:] == ["notebook"]:
        add_notebook()


def install_project() -> None:
    print("install: .venv from requirements.lock, about 5 GB, mostly PyTorch with CUDA", flush=True)
    create_venv()
    install_uv()
    # Where Python may not write bytecode, each start would compile PyTorch again, which takes seconds.
    compile_now = ["--compile-bytecode"] if sys.dont_write_bytecode else []
    run([python(), "-m", "uv", "pip", "sync", "--quiet", "--require-hashes", *compile_now, LOCK], index_from_pip())
    prepare_each_start()


def add_notebook() -> None:
    """Add JupyterLab, whose packages are locked in versions that agree with those of requirements.lock."""
    wanted = "%s %s" % (digest(NOTEBOOK_LOCK), read(STAMP))
    if read(NOTEBOOK_STAMP) == wanted:
        return
    print("install: JupyterLab from requirements-jupyter.lock, into .venv", flush=True)
    run([python(), "-m", "uv", "pip", "install", "--quiet", "--require-hashes", "-r", NOTEBOOK_LOCK], index_from_pip())
    write(NOTEBOOK_STAMP, wanted)


def require_top_level() -> None:
    """Refuse a project in a subfolder of a Git repository: DVC's paths, the review and CI are those of its top."""
    if os.path.exists(os.path.join(ROOT, ".git")):
        return
    folder = os.path.dirname(ROOT)
    while folder != os.path.dirname(folder):
        if os.path.exists(os.path.join(folder, ".git")):
            fail(
                "%s is a subfolder of the Git repository %s; expected a repository of its own, because experiments, "
                "the review and CI read its commits.\nTo have it there nevertheless, push it as a repository of its "
                "own and run `git submodule add <its url>`." % (ROOT, folder)
            )
        folder = os.path.dirname(folder)


def check_venv() -> None:
    """Refuse a .venv that the Python in use did not make, or that was made for another folder."""
    config = read(os.path.join(VENV, "pyvenv.cfg"))
    if config is None:
        return
    remedy = "Remove it (rm -r .venv) and run make again; it is made anew in about a minute."
    version = re.search(r"^version(?:_info)? = (\d+)\.(\d+)", config, re.M)
    made_by = tuple(map(int, version.groups())) if version else None
    if made_by != sys.version_info[:2]:
        fail(
            ".venv was made by Python %s, but this is Python %d.%d (%s).\nKeep it with `make PYTHON=python%s`, or: %s"
            % (
                "%d.%d" % made_by if made_by else "?",
                *sys.version_info[:2],
                sys.executable,
                "%d.%d" % made_by if made_by else "3",
                remedy,
            )
        )
    try:
        works = subprocess.run([python(), "-c", ""], capture_output=True).returncode == 0
    except OSError:
        works = False
    if not works:
        fail(".venv/bin/python does not run: the Python that made it is gone.\n" + remedy)
    stamp = read(STAMP)
    if stamp and stamp.split(" ", 1)[1] != os.path.realpath(VENV):
        fail(".venv was made for %s; its programs name that folder.\n%s" % (stamp.split(" ", 1)[1], remedy))


def create_venv() -> None:
    if read(os.path.join(VENV, "pyvenv.cfg")) is not None:
        return
    # Without pip where Debian left ensurepip out; then the pip of the Python in use installs uv.
    without_pip = [] if has_module("ensurepip") else ["--without-pip"]
    if without_pip and not has_module("pip"):
        fail(
            "%s has neither ensurepip nor pip, so nothing can be installed.\n"
            "On Debian and Ubuntu: apt install python3-venv" % sys.executable
        )
    run([sys.executable, "-m", "venv", *without_pip, VENV])


def install_uv() -> None:
    """Install uv, in the version that requirements.lock names; it installs the rest several times faster than pip."""
    with open(LOCK) as lock:
        pinned = re.search(r"^uv==.*?(?=^\S|\Z)", lock.read(), re.M | re.S)
    if not pinned:
        fail("requirements.lock has no uv. Put it back with `git checkout requirements.lock`.")
    pip = [python(), "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        pip = [sys.executable, "-m", "pip", "--python", python()]
    with tempfile.TemporaryDirectory() as folder:
        requirement = os.path.join(folder, "uv.txt")
        with open(requirement, "w") as stream:
            stream.write(pinned.group())
        run([*pip, "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", requirement])


def index_from_pip() -> "dict[str, str]":
    """The package index that pip is set up to use, for uv, which does not read pip's settings."""
    if not has_module("pip") or any(
        name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")
    ):
        return {}
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    index = re.search(r"^(?:global|install|:env:)\.index-url='(.+)'$", listed, re.M)
    return {"UV_DEFAULT_INDEX": index.group(1)} if index else {}


def prepare_each_start() -> None:
    """Have .venv/bin/python run scripts/startup.py each time that it starts, and put ROOT last on its sys.path.

    `python -m stages.predict` then works from any folder; in a folder that has stages/ of its own, as that of a queued
    experiment, those come first. Python runs a line of a .pth file that begins with `import` at each start, and takes
    any other for a folder to import from (docs: the site module).
    """
    site_packages = subprocess.run(
        [python(), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    shutil.copyfile(STARTUP, os.path.join(site_packages, "project_startup.py"))
    with open(os.path.join(site_packages, "project_startup.pth"), "w") as stream:
        stream.write("import project_startup; project_startup.main()\n" + ROOT + "\n")


def run(command: "list[str]", environment: "dict[str, str] | None" = None) -> None:
    """Run a command; where it fails, its own message is printed first."""
    try:
        done = subprocess.run(command, env={**os.environ, **(environment or {})})
    except OSError as error:
        fail("%s: %s" % (command[0], error.strerror))
    if done.returncode:
        fail(
            "`%s` failed; its message is above. Check the network and the free space (%.0f GB here), then run make "
            "again: what is installed already is kept." % (" ".join(command[1:4]), shutil.disk_usage(ROOT).free / 1e9)
        )


def python() -> str:
    return os.path.join(VENV, "bin", "python")


def has_module(name: str) -> bool:
    return subprocess.run([sys.executable, "-c", "import " + name], capture_output=True).returncode == 0


def digest(*paths: str) -> str:
    sha256 = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            sha256.update(stream.read())
    return sha256.hexdigest()


def write(path: str, text: str) -> None:
    with open(path, "w") as stream:
        stream.write(text)


def read(path: str) -> "str | None":
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return None


def fail(message: str) -> NoReturn:
    sys.exit("error: " + message)


if __name__ == "__main__":
    main()
