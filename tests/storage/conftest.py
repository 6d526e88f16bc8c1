"""A DVC project with a local remote, both real and tiny, and the means of who may change either."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

FILES = {"cat/0.png": b"first", "cat/1.png": b"second", "dog/0.png": b"third"}


@dataclass(frozen=True)
class Project:
    """A project's folder, and that of its remote."""

    root: Path
    remote: Path

    def put(self, content: bytes, name: str | None = None, suffix: str = "") -> str:
        """Store an object in the remote under the MD5 of its content, or under another name."""
        name = name or hashlib.md5(content).hexdigest() + suffix
        file = self.remote / "files/md5" / name[:2] / name[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        file.chmod(0o444)
        return name

    def name_listing(self, content: object) -> None:
        """Have data.dvc name this listing: JSON of it, or the bytes."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.write_pointer(md5=self.put(raw, suffix=".dir"))

    def write_pointer(self, **changes: object) -> None:
        """Change the output of data.dvc; None takes a key away."""
        pointer = yaml.safe_load((self.root / "data.dvc").read_text())
        out = pointer["outs"][0] | changes
        pointer["outs"] = [{key: value for key, value in out.items() if value is not None}]
        (self.root / "data.dvc").write_text(yaml.safe_dump(pointer))

    def write_lock(self, *outs: dict[str, object]) -> None:
        """Have dvc.lock name these outputs of one stage."""
        stages = {"train": {"cmd": "true", "outs": list(outs)}}
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))

    def objects(self) -> dict[str, bytes]:
        """What is in the project's cache, by name."""
        cache = self.root / ".dvc/cache/files/md5"
        return {file.parent.name + file.name: file.read_bytes() for file in cache.rglob("*") if file.is_file()}

    def written(self) -> set[str]:
        """Everything in the project and beside it but DVC's own folder and the remote."""
        found = set()
        for folder, folders, files in os.walk(self.root.parent):
            folders[:] = [name for name in folders if name not in (".dvc", self.remote.name)]
            found |= {str(Path(folder, name).relative_to(self.root.parent)) for name in [*folders, *files]}
        return found - {"project", "project/data.dvc", "project/dvc.lock", "project/.dvcignore"}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with data/ pushed, and the remote. Not to be changed."""
    folder = tmp_path_factory.mktemp("storage")
    root = folder / "project"
    for path, content in FILES.items():
        (root / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / path).write_bytes(content)
    with Repo.init(str(root), no_scm=True):
        pass
    (root / ".dvc/config").write_text(
        "[core]\n    no_scm = True\n    remote = team\n['remote \"team\"']\n    url = ../../remote\n    verify = true\n"
    )
    with Repo(str(root)) as repo:
        repo.add(str(root / "data"))
        repo.push()
    (root / ".dvc/config").write_text("[core]\n    remote = team\n['remote \"team\"']\n    url = ../../remote\n")
    (root / ".dvc/config.local").write_text("[core]\n    no_scm = True\n")
    (root / ".dvc/config.local").chmod(0o600)
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    """A copy of one's own, without data/ and with an empty cache."""
    shutil.copytree(template, tmp_path / "place")
    return Project(tmp_path / "place/project", tmp_path / "place/remote")
