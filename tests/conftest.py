"""Fixtures: an empty project folder for single stages, and clones in which the pipeline has run."""

import fcntl
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from review import git, store
from stages.common import arithmetic  # before NumPy
from tests.project import COLD, VENV, clone_project, edit_params, run, sample_params, write_images, write_patterns
from tests.warm import warm_venv

# Tests that call a stage's functions share this process, whose kernels its first operation chooses.
arithmetic.use_portable_torch()
# More processes than cores: threads that spin while they wait would slow down all of them. It does not change a byte.
os.environ["GOMP_SPINCOUNT"] = "0"


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Workers find the warm .venv that the process has made that started them."""
    if hasattr(config, "workerinput") or VENV.exists():
        return (yield)
    with warm_venv(COLD, VENV):
        return (yield)


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: the longest tests wait for DVC's queue half of the time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a clone, and let it begin."""
    for item in items:
        if isinstance(item, pytest.Function) and "pristine_clone" in item.fixturenames:
            item.add_marker("clone")
    # The long ones first, and among them those of the whole project: nobody waits for them at the end.
    own = Path(__file__).parent
    items.sort(key=lambda item: (item.get_closest_marker("clone") is None, item.path.parent != own))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty folder with the sample's params.yaml, a quick schedule, and a GPU where there is one; the
    current folder."""
    (tmp_path / "params.yaml").write_text(sample_params())
    edit_params(tmp_path, model="simplenet", epochs=2, device="auto")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stage"])
    return tmp_path


@pytest.fixture
def image_workspace(workspace: Path) -> Path:
    """`workspace` with data/: three classes of 60 random images."""
    write_images(workspace / "data", {"cat": 60, "dog": 60, "owl": 60})
    return workspace


@pytest.fixture(scope="session")
def pristine_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the sample in which nothing has run. Not to be changed: `clone` gives copies."""
    return clone_project(tmp_path_factory.mktemp("pristine") / "project")


@pytest.fixture(scope="session")
def reproduced_clone(pristine_clone: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A clone with other data, of classes a to e, and a quick schedule, reproduced and committed. Not to be changed.

    Made once, by processes that start cold: the worker that is there first makes it, and the others wait for it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    folder = shared / "reproduced" / "project"
    with (shared / "reproduced.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        making = folder.with_name("making")
        shutil.copytree(pristine_clone, making, symlinks=True)
        write_patterns(making / "data", "abcde", 80)
        # 5e-4 is a number to DVC, and a text to YAML 1.1.
        edit_params(making, model="simplenet", epochs=3, batch_size=16, weight_decay="5e-4")
        run([COLD / "bin/dvc", "repro", "--quiet"], making)
        run("git add --all && git commit --quiet --message 'quick schedule'", making)
        return making.rename(folder)


@pytest.fixture
def clone(pristine_clone: Path, tmp_path: Path) -> Path:
    """A fresh clone of one's own."""
    return Path(shutil.copytree(pristine_clone, tmp_path / "project", symlinks=True))


@pytest.fixture
def copy_reproduced(reproduced_clone: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Make a copy of one's own, under a given name, of the clone in which the quick schedule has run."""
    return lambda name: Path(shutil.copytree(reproduced_clone, tmp_path / name, symlinks=True))


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Make a repository the current folder, for functions of review that are called in this process: what they keep of
    Git and DVC is of the folder that they were first asked in."""

    def forget() -> None:
        if git._batch.cache_info().currsize:
            git._batch().kill()
        for function in (git._batch, git._tree, store.repository):
            function.cache_clear()

    def into(folder: Path) -> None:
        monkeypatch.chdir(folder)
        forget()

    yield into
    forget()
