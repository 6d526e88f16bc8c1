"""Clones of this project, tiny image folders, and commands run in them as a user would, for tests."""

import functools
import os
import pickle
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.own_files import is_own, is_scaffold
from scripts.sample import DVC_MD5
from stages.common import corrections
from stages.common.arithmetic import VARIABLES
from stages.common.documents import parse_yaml
from stages.common.yaml12 import dump_yaml
from stages.params import Params

ROOT = Path(__file__).parent.parent
# The image has the environment elsewhere, and says so.
COLD = Path(os.environ.get("VENV", ROOT / ".venv"))
# Where tests/warm.py puts its .venv, for all workers of a test run; TESTS_VENV=.venv tests without it.
VENV = Path(os.environ.setdefault("TESTS_VENV", f"{tempfile.gettempdir()}/warm-{os.getpid()}/.venv")).absolute()
BIN = VENV / "bin"
# A line of shell that ends when no queued experiment is waiting or running; `dvc queue logs --follow` refuses one that
# no worker has taken yet. It starts workers again, because DVC 3.67's may end and leave an experiment waiting. Another
# one stays, with nothing to do and deaf to `dvc queue stop`: it must hold no pipe that somebody reads to its end.
QUEUE_IS_EMPTY = (
    f"while {BIN}/dvc queue status | grep --extended-regexp --quiet 'Queued|Running'; "
    f"do {BIN}/dvc queue start --jobs 2 --quiet > /dev/null 2>&1; done; "
    'for file in .dvc/tmp/exps/celery/*.pid; do kill "$(cat "$file")" 2> /dev/null || true; done'
)


# The tests' own params, whatever params.yaml says: the recipe for the sample.
PARAMS = ROOT / "configs/digits.yaml"


@functools.cache
def sample_params() -> str:
    """PARAMS, and what a project has added to the schema, with its default."""
    text = PARAMS.read_text()
    present = parse_yaml(text.encode())
    added = {
        name: field.default
        for name, field in Params.model_fields.items()
        if name not in present and not field.is_required()
    }
    return text + dump_yaml(added) if added else text


# What a clone has in place of the project's own files.
SAMPLE = {
    ".dvc/config": """[core]
    remote = local
    analytics = false
    check_update = false
['remote "local"']
    url = ../dvc-storage
    verify = true
""",
    "README.md": "# A project\n",
    "corrections.csv": corrections.text([]),
    "data.dvc": f"""outs:
- md5: {DVC_MD5}
  size: 251580
  nfiles: 1797
  hash: md5
  path: data
""",
    "params.yaml": sample_params(),
}
scaffold_only = pytest.mark.skipif(not is_scaffold(ROOT), reason="README.md is the project's own")


def user_environment(**changes: str) -> dict[str, str]:
    """The environment of a user who has not activated .venv: with a Git identity, without variables of DVC, of a
    launcher, and of this process's own portable arithmetic."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "GIT_", "MAKE", "MFLAGS"))
        and name not in ("VIRTUAL_ENV", "WORLD_SIZE", "PYTHONPATH", *VARIABLES)
    }
    own = ((COLD / "bin").resolve(), BIN.resolve())
    kept["PATH"] = os.pathsep.join(
        entry for entry in os.environ["PATH"].split(os.pathsep) if Path(entry).resolve() not in own
    )
    identity = {f"GIT_{who}_{what}": "tests@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | identity | changes


def run(
    command: str | Sequence[str | Path], cwd: Path, *, expect: int | None = 0, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command, or a line of shell, in `cwd`, and check its exit code (`expect=None`: any but zero)."""
    done = subprocess.run(
        command,
        cwd=cwd,
        shell=isinstance(command, str),
        env=user_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    as_expected = done.returncode != 0 if expect is None else done.returncode == expect
    assert as_expected, f"{command} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that a user's mistake ended: one `error:` on stderr, no traceback anywhere."""
    assert done.returncode not in (0, 130)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    return done.stderr[done.stderr.index("error: ") :]


def clone_project(target: Path, *, as_it_is: bool = False) -> Path:
    """A Git clone of this project as it stands in the working tree, on a branch `main`, with our .venv: with the
    sample, and without a result, in place of what is the project's own, or as it is."""
    run(["git", "clone", "--quiet", "--no-local", ROOT, target], ROOT)
    # Whatever is checked out here, it is the main branch there.
    run("git checkout --quiet -B main && git update-ref refs/remotes/origin/main main", target)
    run("git remote set-head origin main", target)
    listed = run("git ls-files --cached --others --exclude-standard --deduplicate", ROOT).stdout.splitlines()
    for path in set(run("git ls-files", target).stdout.splitlines()) - set(listed):
        (target / path).unlink()
    for path in listed:
        if (ROOT / path).exists():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target / path)
        else:
            (target / path).unlink(missing_ok=True)
    if not as_it_is:
        lay_sample(target)
    run("git add --all && (git diff --cached --quiet || git commit --quiet --message 'the working tree')", target)
    (target / ".venv").symlink_to(VENV)
    return target


def lay_sample(folder: Path) -> None:
    """Put SAMPLE into a clone in place of all that is the project's own."""
    for path in run("git ls-files -z --cached --others --exclude-standard", folder).stdout.split("\0"):
        if path and is_own(path):
            (folder / path).unlink(missing_ok=True)
    for path, text in SAMPLE.items():
        (folder / path).write_text(text)


def write_images(folder: Path, classes: dict[str, int], *, side: int = 8, colour: bool = False, seed: int = 0) -> None:
    """Write random PNG images, `classes[name]` of each class, into `folder`/<name>/."""
    generator = np.random.default_rng(seed)
    shape = (side, side, 3) if colour else (side, side)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:04}.png")


def write_patterns(folder: Path, classes: Sequence[str], images: int, *, side: int = 8, noise: int = 90) -> None:
    """Write so many images of each class, its own pattern in noise, into `folder`/<name>/: what a net soon learns."""
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        pattern = generator.integers(64, 192, (side, side))
        for number in range(images):
            pixels = pattern + generator.normal(0, noise, (side, side))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:04}.png")


def write_cifar10(folder: Path, images: int = 20) -> None:
    """Write CIFAR-10's files with so many random images in each, of ten classes, into `folder`."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    names = [f"class {number}" for number in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    (folder / "readme.html").write_text("")
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        pixels = generator.integers(0, 256, (images, 3072), dtype=np.uint8)
        labels = [number % 10 for number in range(images)]
        batch = {"data": pixels, "labels": labels, "filenames": ["x.png"] * images}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def edit_params(folder: Path, **changes: object) -> None:
    """Set keys in `folder`/params.yaml as a user would, by editing their lines."""
    path = folder / "params.yaml"
    lines = path.read_text().splitlines()
    for key, value in changes.items():
        (index,) = (number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
        lines[index] = f"{key}: {value}"
    path.write_text("\n".join(lines) + "\n")


def relock(folder: Path, path: str) -> None:
    """Make dvc.lock say that a file in Git is as the run wrote it: what a forger would do."""
    md5 = run(["md5sum", path], folder).stdout[:32]
    lock = folder / "dvc.lock"
    text, count = re.subn(rf"(- path: {path}\n      hash: md5\n      md5: )\w+", rf"\g<1>{md5}", lock.read_text())
    assert count
    lock.write_text(text)
