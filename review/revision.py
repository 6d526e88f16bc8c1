"""The project at a revision: files in Git, files in DVC, metrics and params; what is not there, and how to get it."""

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from review import git
from review.lock import Lock, hashes
from stages.common.errors import UserError

WORKSPACE = "workspace"


class Missing(UserError):  # noqa: N818  # it is no mistake
    """Something that a revision does not have, or has where it cannot be reached; the text names a remedy."""


@dataclass(frozen=True)
class Revision:
    """A commit by the name that the user gave, or, where `commit` is None, the working tree."""

    name: str
    commit: str | None

    @classmethod
    def named(cls, name: str) -> "Revision":
        """What Git or DVC calls `name`, or the working tree, `workspace`. UserError where there is no such thing."""
        if name == WORKSPACE:
            git.require_merged()
            return cls(WORKSPACE, None)
        return cls(name, git.resolve(name))

    def __str__(self) -> str:
        if self.commit is None:
            return "the working tree"
        short = self.commit[:7]
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"

    def read(self, path: str) -> bytes | None:
        """A file that Git tracks; None where this revision has none."""
        if self.commit is not None:
            return git.show(self.commit, path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return Path(path).read_bytes()
        return None

    def modules(self, folder: str) -> dict[str, str]:
        """The MD5 of each Python module below a folder, by its path in it: what .dvcignore leaves of stages/ to DVC."""
        if self.commit is None:
            paths = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.py")]
        else:
            listed = git.files(self.commit, folder)
            paths = [path.removeprefix(f"{folder}/") for path in listed if path.endswith(".py")]
        contents = {path: self.read(f"{folder}/{path}") for path in paths}
        return {path: hashlib.md5(content).hexdigest() for path, content in contents.items() if content is not None}

    def hash_of(self, path: str) -> str | None:
        """What DVC records of a dependency that Git tracks, a file or a folder of modules; None where it is missing.

        Of a folder, the MD5 of the list of its files with theirs, as dvc_data.hashfile.tree makes it.
        """
        content = self.read(path) if self.commit is not None or Path(path).is_file() else None
        if content is not None:
            return hashlib.md5(content).hexdigest()
        modules = self.modules(path)
        listing = [{"md5": digest, "relpath": name} for name, digest in sorted(modules.items())]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir" if modules else None

    def json(self, path: str) -> dict[str, Any]:
        """A JSON object that Git tracks. Raises Missing."""
        content = self.read(path)
        if content is None:
            raise Missing(f"{path}: not in {self}. {self._remedy()}")
        try:
            parsed = json.loads(content)
        except ValueError as error:
            raise Missing(f"{path}: not JSON in {self} ({error}). {self._remedy()}") from None
        if not isinstance(parsed, dict):
            raise Missing(f"{path}: not a JSON object in {self}. {self._remedy()}")
        return parsed

    def table(self, path: str, columns: Collection[str] = ()) -> list[dict[str, str]]:
        """The rows of a CSV file that Git tracks and a stage wrote. Raises Missing where there is none, where it is not
        what the stage wrote, or where it is no table with these columns."""
        content = self.read(path)
        if content is None:
            raise Missing(f"{path}: not in {self}. {self._remedy()}")
        if hashlib.md5(content).hexdigest() != hashes(self.lock, "outs").get(path):
            raise Missing(f"{path}: not what the run wrote; changed after it, in {self}. {self._remedy()}")
        return self._rows(path, content, columns)

    def tracked_table(self, path: str, columns: Collection[str] = ()) -> list[dict[str, str]]:
        """The rows of a CSV file that DVC tracks. Raises Missing where it cannot be had, or is no table with these
        columns."""
        return self._rows(path, self.tracked(path), columns)

    def _rows(self, path: str, content: bytes, columns: Collection[str]) -> list[dict[str, str]]:
        # Names of images and classes may hold what str.splitlines takes for the end of a line.
        try:
            reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
            names = reader.fieldnames or []
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise csv.Error(f"line {reader.line_num} has other than {len(names)} values")
                rows.append(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise Missing(f"{path}: not a CSV table in {self} ({error}). {self._remedy()}") from None
        absent = [name for name in columns if name not in names]
        if absent:
            raise Missing(
                f"{path}: no column {', '.join(absent)} in {self}; expected {', '.join(columns)}, got "
                f"{', '.join(names) or 'an empty file'}. Choose a revision that was committed after `dvc repro` with "
                "code that writes them."
            )
        return rows

    def tracked(self, path: str) -> bytes:
        """A file that DVC tracks: from the working tree, DVC's cache, or the remote. Raises Missing."""
        if self.commit is None:
            content = self.read(path)
            if content is not None:
                return content
        from dvc.exceptions import DvcException
        from dvc_data.index.index import DataIndexDirError

        try:
            content = self._files.read_bytes(path)
        except (DvcException, DataIndexDirError, OSError) as error:
            reason = error.__cause__ or error
            if not self._knows(path):
                raise Missing(f"{path}: {self} has no such output. {self._remedy()}") from None
            where = "neither in DVC's cache nor in the remote"
            if not isinstance(reason, FileNotFoundError):
                where = f"not in DVC's cache, and the remote cannot be read ({type(reason).__name__}: {reason})"
            raise Missing(f"{path}: of {self}, {where}. {self._getting(path)}") from None
        assert isinstance(content, bytes)
        return content

    @cached_property
    def lock(self) -> Lock:
        """dvc.lock. Raises Missing."""
        content = self.read("dvc.lock")
        if content is None:
            raise Missing(f"dvc.lock: not in {self}. {self._remedy()}")
        # CSafeLoader is ten times as fast.
        try:
            lock = yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise Missing(f"dvc.lock: not YAML in {self}: {error}. {self._remedy()}") from None
        if not isinstance(lock, dict) or "stages" not in lock:
            raise Missing(f"dvc.lock: not what DVC writes, in {self}. {self._remedy()}")
        return lock

    @cached_property
    def declared(self) -> dict[str, Any]:
        """dvc.yaml; empty where this revision has none. Raises Missing where it is not YAML."""
        return self._yaml("dvc.yaml")

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics files that dvc.yaml declares, by path. Raises Missing where there is none.

        Read from Git, where this project keeps them: DVC's own way opens the whole project at each revision first.
        """
        entries = [entry for stage in self.declared.get("stages", {}).values() for entry in stage.get("metrics", [])]
        paths = [path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])]
        found = {path: self.json(path) for path in paths if self.read(path) is not None}
        if not found:
            raise Missing(f"metrics: {self} has none. {self._remedy()}")
        return found

    @cached_property
    def params(self) -> dict[str, Any]:
        """params.yaml; empty where this revision has none. Raises Missing where it is not YAML."""
        return self._yaml("params.yaml")

    def _yaml(self, path: str) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self.read(path) or b"") or {}
        except yaml.YAMLError as error:
            raise Missing(f"{path}: not YAML in {self}: {error}") from None
        if not isinstance(content, dict):
            raise Missing(f"{path}: expected one `key: value` per line in {self}.")
        return content

    @cached_property
    def _files(self) -> Any:
        from dvc.api import DVCFileSystem

        return DVCFileSystem(rev=self.commit) if self.commit else DVCFileSystem()

    def _knows(self, path: str) -> bool:
        try:
            outs = [out["path"] for stage in self.lock["stages"].values() for out in stage.get("outs", [])]
        except Missing:
            return False
        return any(path == out or path.startswith(f"{out}/") for out in outs)

    def _getting(self, path: str) -> str:
        if self.commit is None:
            return f"`dvc pull {path}` gets it, where it was pushed; `dvc repro` makes it."
        return (
            "Whoever made it types `dvc push` at that revision; or `git worktree add ../there "
            f"{self.commit[:12]}` and `make repro` in it make it again."
        )

    def _remedy(self) -> str:
        if self.commit is None:
            return "`make repro` makes it."
        return "Choose a revision that was committed after `dvc repro`."


@cache
def repository() -> Any:
    """This project as DVC's API sees it. UserError outside of a DVC project."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Repo()
    except NotDvcRepoError:
        raise UserError("not a DVC project; run this in the project's clone.") from None
