"""A clean checkout of a revision, in which its pipeline can run, and which leaves nothing behind."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from review import git
from review.revision import repository
from stages.common.errors import UserError

# Of the main checkout: beside its cache, so that links into it work, and ignored by Git and DVC.
_FOLDER = Path(".dvc/tmp/reproduce")


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A Git worktree of `commit` that shares this checkout's DVC cache, credentials and remotes; removed at the end,
    also where the process is told to stop. What a killed process left is removed first."""
    root = Path(git.git("rev-parse", "--show-toplevel").strip())
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    place = folder / str(os.getpid())
    with (folder / f"{os.getpid()}.lock").open("w") as lock, _stop_signals_raise():
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            git.git("worktree", "add", "--quiet", "--detach", place, commit)
            _share_configuration(root, place)
            yield place
        finally:
            _remove(place)
            Path(lock.name).unlink(missing_ok=True)


def run(place: Path, *command: str) -> int:
    """Run a command in the worktree, what it prints to stderr; its exit code. It ends when this process is stopped."""
    process = subprocess.Popen(
        command, cwd=place, env=_environment(place), stdout=sys.stderr.fileno(), start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def output(place: Path, *command: str) -> str:
    """What a short command prints in the worktree. CalledProcessError where it fails."""
    done = subprocess.run(command, cwd=place, env=_environment(place), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _environment(place: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    kept.pop("PYTHONPATH", None)
    # A checkpoint of an earlier run must not replace running it.
    return kept | {"CHECKPOINT_DIR": str(place / ".dvc" / "tmp" / "checkpoints")}


def _share_configuration(root: Path, place: Path) -> None:
    local = root / ".dvc" / "config.local"
    if local.exists():
        shutil.copy2(local, place / ".dvc")
    from dvc.config import Config

    ours = repository()
    with Config(str(place / ".dvc")).edit("local") as config:
        config.setdefault("cache", {})["dir"] = str(Path(ours.cache.local.path).parents[1])
        for name, remote in ours.config["remote"].items():
            # A path is written relative to its configuration file.
            if Path(remote["url"]).is_absolute():
                config.setdefault("remote", {}).setdefault(name, {})["url"] = remote["url"]


@contextlib.contextmanager
def _stop_signals_raise() -> Iterator[None]:
    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove_leftovers(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        with lock.open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # somebody is at work in it
            _remove(lock.with_suffix(""))
            lock.unlink()
            print(f"reproduce: removed {lock.with_suffix('')}, left by a killed run", file=sys.stderr)


def _remove(place: Path) -> None:
    with contextlib.suppress(UserError):
        git.git("worktree", "remove", "--force", "--force", place)
    shutil.rmtree(place, ignore_errors=True)
    git.git("worktree", "prune")
