"""A clean checkout of a revision, in which its pipeline can run, and which leaves nothing behind."""

import contextlib
import fcntl
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from review import children, git, sandbox
from review.store import repository
from stages.common import escape
from stages.common.errors import UserError
from stages.common.locks import try_lock, why_no_locks

# Of the main checkout: beside its cache, so that links into it work, and ignored by Git and DVC.
_FOLDER = Path(".dvc/tmp/reproduce")
_LONGEST_LINE = 100_000
# Variables of this checkout, which would lead DVC, Git or Python out of the other.
_REDIRECTS = re.compile(r"DVC_|GIT_|PYTHONPATH$")
# Variables that a confined run gets: of languages, times, GPUs and threads.
_KEPT = re.compile(
    r"LANG|LANGUAGE|LC_\w+|TZ|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|LD_LIBRARY_PATH|GOMP_\w+|OMP_\w+|MKL_\w+|"
    r"PROJECT_IMAGE|VENV|ALLOW_LAUNCHER"
)


@dataclass(frozen=True)
class Cleanroom:
    """A Git worktree of a commit. `confined`: what runs in it is somebody else's, so it gets neither the environment
    nor the home, the other files and the network of whoever runs it; without review/sandbox.py's namespaces, only not
    the environment."""

    path: Path
    confined: bool

    def run_stage(self, command: str) -> int:
        """Run a stage's command in the worktree, what it prints to stderr; its exit code. It ends when this process is
        stopped. Without DVC, which takes longer to start than a small stage to run, and whose record of the run, made
        beside somebody else's code, would not be believed."""
        # DVC takes each line for a command of its own.
        return next(filter(None, (self._run("/bin/sh", "-c", line) for line in command.splitlines())), 0)

    def _run(self, *command: str) -> int:
        if not self.confined:
            with self._started(command, sys.stderr.fileno(), None) as process:
                return process.wait()
        with self._started(command, subprocess.PIPE, subprocess.STDOUT) as process:
            assert process.stdout is not None
            printed = io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="\n")
            # What somebody else's code prints is text, and not what a terminal does; nor does it fill the memory.
            while line := printed.readline(_LONGEST_LINE):
                print(escape.terminal(line.rstrip("\r\n")), file=sys.stderr, flush=True)
            return process.wait()

    def output(self, *command: str) -> str:
        """What a short command prints in the worktree. CalledProcessError where it fails."""
        with self._started(command, subprocess.PIPE, subprocess.DEVNULL) as process:
            printed, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return printed.decode("utf-8", "replace")

    def _started(
        self, command: Sequence[str], stdout: int, stderr: int | None
    ) -> "contextlib.AbstractContextManager[subprocess.Popen[bytes]]":
        if self.confined and not sandbox.why_unavailable():
            command = sandbox.command(self.path, *command)
        return children.started(
            command,
            cwd=self.path,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        # A checkpoint of an earlier run must not replace running it.
        changes = {"CHECKPOINT_DIR": str(self.path / ".dvc/tmp/checkpoints")}
        if not self.confined:
            return {name: value for name, value in os.environ.items() if not _REDIRECTS.match(name)} | changes
        home = sandbox.HOME
        if sandbox.why_unavailable():
            home = self.path / ".dvc/tmp/home"
            home.mkdir(parents=True, exist_ok=True)
        programs = f"{Path(sys.prefix).resolve()}/bin:/usr/local/bin:/usr/bin:/bin"
        changes |= {"HOME": str(home), "PATH": programs}
        return {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)} | changes


@contextlib.contextmanager
def checked_out(commit: str, *, confined: bool) -> Iterator[Cleanroom]:
    """A worktree of `commit` with this checkout's DVC cache, remotes and credentials, until `seal`; removed at the end,
    also where the process is told to stop. What a killed process left is removed first."""
    root = Path(git.git("rev-parse", "--show-toplevel").strip())
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if reason := why_no_locks(folder):
        raise UserError(f"reproduce: {reason}, which this and DVC need. Clone the project to a local disk.")
    _remove_leftovers(folder)
    place = folder / str(os.getpid()) / "checkout"
    with (folder / f"{os.getpid()}.lock").open("w") as lock, _stop_signals_raise():
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            git.git("worktree", "add", "--quiet", "--detach", place, commit)
            _configure(root, place)
            yield Cleanroom(place, confined)
        finally:
            _remove(place.parent)
            Path(lock.name).unlink(missing_ok=True)


def _configure(root: Path, place: Path) -> None:
    """Give the worktree the configuration of this checkout in place of its own, which is somebody else's."""
    from dvc.config import Config

    ours = repository()
    _empty_dvc_folder(place)
    for name in ("config", "config.local"):
        if (root / ".dvc" / name).exists():
            shutil.copy2(root / ".dvc" / name, place / ".dvc" / name)
    with Config(str(place / ".dvc")).edit("local") as config:
        # Relative paths: DVC 3.67 cannot write letters beyond ASCII, which the project's own path may have. No links
        # into the cache: what runs here could write through them.
        config["cache"] = {"dir": os.path.relpath(Path(ours.cache.local.path).parents[1]), "type": ["reflink", "copy"]}
        for name, remote in ours.config["remote"].items():
            # A path is written relative to its configuration file.
            if Path(remote["url"]).is_absolute():
                config.setdefault("remote", {}).setdefault(name, {})["url"] = os.path.relpath(remote["url"])
    (place / ".dvc/config.local").chmod(0o600)


def seal(place: Path) -> None:
    """Take cache, remotes and credentials away from the worktree, before anything of it runs."""
    _empty_dvc_folder(place)
    # In the sandbox there is no .git.
    (place / ".dvc/config").write_text("[core]\n    no_scm = true\n")


def _empty_dvc_folder(place: Path) -> None:
    folder = place / ".dvc"
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


class TimeIsUpError(BaseException):
    """The time of `time_limit` is over. No code that goes on after errors of its own goes on after this one."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeIsUpError where what is done in here takes longer; what was started here is then killed."""

    def time_is_up(_: int, __: FrameType | None) -> NoReturn:
        raise TimeIsUpError

    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
            if not try_lock(stream):
                continue  # somebody is at work in it
            _remove(lock.with_suffix(""))
            lock.unlink()
            print(f"reproduce: removed {lock.with_suffix('')}, left by a killed run", file=sys.stderr)


def _remove(place: Path) -> None:
    # Not by `git worktree remove`, which asks the .git in there, which somebody else's code may have changed.
    shutil.rmtree(place, ignore_errors=True)
    git.git("worktree", "prune")
