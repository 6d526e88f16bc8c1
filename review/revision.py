"""The project at a revision: files in Git, files in DVC, metrics and params; what is not there, and how to get it.

A revision may be anybody's. It is read, never opened as a project, and what it holds is checked here: files by
documents, tables and dvc_files, paths by `read`.
"""

import hashlib
import io
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from review import dvc_files, git, plain_yaml, store
from review.lock import Lock, hashes
from stages.common import tables
from stages.common.documents import DocumentError, parse_json, parse_toml
from stages.common.errors import UserError
from stages.common.versions import folder_name

if TYPE_CHECKING:
    from review.manifest import Manifest

WORKSPACE = "workspace"
# The stage that measures on the test split, its lock, and all that it writes.
CLAIM = "claim"
# The stage that writes the model as ONNX.
EXPORT = "export"
MANIFEST = "prepared/manifest.csv"
MANIFEST_COLUMNS = ("path", "class", "split", "sha256", "status")
# In bytes: what a commit's dvc.lock, params and metrics have, of which several facts are told.
_MOST_KEPT = 100_000


class Missing(UserError):  # noqa: N818  # it is no mistake
    """Something that a revision does not have, or has where it cannot be reached; the text names a remedy."""


class Malformed(Missing):
    """Something that a revision has, and that is not what it should be."""


Parsed = TypeVar("Parsed")


def require_relative(path: str, where: str) -> None:
    """Malformed for a path that is not one inside the project, written in the shortest way."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\0" in path:
        raise Malformed(f"{path}: expected a path inside the project, in {where}. Write it relative to the project.")


@dataclass(frozen=True)
class Revision:
    """A commit by the name that the user gave, or, where `commit` is None, the working tree. `ask_remote`: whether what
    is in no cache here may be got from the working tree's default remote."""

    name: str
    commit: str | None
    ask_remote: bool = True

    @classmethod
    def named(cls, name: str, *, ask_remote: bool = True) -> "Revision":
        """What Git or DVC calls `name`, or the working tree, `workspace`. UserError where there is no such thing."""
        if name == WORKSPACE:
            git.require_merged()
            return cls(WORKSPACE, None, ask_remote)
        return cls(name, git.resolve(name), ask_remote)

    def __str__(self) -> str:
        if self.commit is None:
            return "the working tree"
        short = self.commit[:7]
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"

    def read(self, path: str) -> bytes | None:
        """A file that Git tracks; None where this revision has none. Raises Malformed for a path that leaves the
        project, also through a link, for a link, and for a file that is too large."""
        require_relative(path, str(self))
        if self.commit is None:
            return self._read_here(path)
        if path in self._contents:
            return self._contents[path]
        try:
            content = git.show(self.commit, path)
        except git.TooLargeError as error:
            raise Malformed(str(error)) from None
        if content is None and git.is_link(self.commit, path):
            raise Malformed(f"{path}: expected a file, got a link, in {self}. {self._remedy(path)}")
        if content is not None and len(content) <= _MOST_KEPT:
            self._contents[path] = content
        return content

    @cached_property
    def _contents(self) -> dict[str, bytes]:
        """Small files of a commit that were read."""
        return {}

    def _read_here(self, path: str) -> bytes | None:
        with self._opened_here(path) as stream:
            if stream is None:
                return None
            size = os.fstat(stream.fileno()).st_size
            if size > git.MOST_BYTES:
                raise Malformed(f"{path}: {size:,} bytes; expected {git.MOST_BYTES:,} at most.")
            return stream.read()

    @contextmanager
    def _opened_here(self, path: str) -> Iterator[BufferedReader | None]:
        """A file of the working tree; None where there is none. Raises Malformed for a link."""
        parts = [Path(path), *Path(path).parents][:-1]
        if any(part.is_symlink() for part in parts):
            raise Malformed(f"{path}: expected a file, got a link, in {self}. Remove the link.")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            yield None
            return
        with os.fdopen(descriptor, "rb") as stream:
            yield stream

    def in_git(self, path: str) -> bool:
        """Whether Git tracks a file of this name, or something below it."""
        if self.commit is not None:
            return git.exists(self.commit, path)
        return any(file == path or file.startswith(f"{path}/") for file in self._tracked)

    @cached_property
    def _tracked(self) -> set[str]:
        return git.tracked()

    def modules(self, folder: str) -> dict[str, str]:
        """The MD5 of each Python module below a folder, by its path in it: what .dvcignore leaves of stages/ to DVC.
        Raises Malformed."""
        if self.read(folder) is not None:
            return {}
        if self.commit is None:
            paths = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.py")]
        else:
            try:
                listed = git.files(self.commit, folder)
            except git.TooLargeError as error:
                raise Malformed(str(error)) from None
            paths = [path.removeprefix(f"{folder}/") for path in listed if path.endswith(".py")]
        contents = {path: self.read(f"{folder}/{path}") for path in paths}
        return {path: hashlib.md5(content).hexdigest() for path, content in contents.items() if content is not None}

    def hash_of(self, path: str) -> str | None:
        """What DVC records of a dependency that Git tracks, a file or a folder of modules; None where it is
        missing."""
        content = self.read(path)
        if content is not None:
            return hashlib.md5(content).hexdigest()
        modules = self.modules(path)
        return folder_name(modules) if modules else None

    def document(self, path: str) -> Any:
        """A YAML, JSON or TOML file that Git tracks, by the end of its name; None where there is none, or it is empty.
        Raises Malformed."""
        content = self.read(path)
        if content is None:
            return None
        language, parse = _LANGUAGES.get(Path(path).suffix, ("", None))
        if parse is None:
            raise Malformed(f"{path}: expected a name that ends with {', '.join(_LANGUAGES)}, in {self}.")
        try:
            return parse(content)
        except DocumentError as error:
            raise Malformed(f"{path}: not {language} in {self} ({error}). {self._remedy(path)}") from None

    def json(self, path: str) -> dict[str, Any]:
        """A JSON object that Git tracks. Raises Missing."""
        if self.read(path) is None:
            raise Missing(f"{path}: not in {self}. {self._remedy(path)}")
        parsed = self.document(path)
        if not isinstance(parsed, dict):
            raise Malformed(f"{path}: not a JSON object in {self}. {self._remedy(path)}")
        return parsed

    def number(self, path: str, name: str) -> float:
        """A figure of a metrics file, as the run wrote it. Raises Missing."""
        return self.numbers(path, [name])[0]

    def numbers(self, path: str, names: Sequence[str]) -> list[float]:
        """Several figures of a metrics file, as the run wrote them. Raises Missing."""
        self.written(path)
        figures = self.json(path)
        for name in names:
            value = figures.get(name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise Malformed(f"{path}: {name}: expected a number in {self}, got {value!r}. {self._remedy(path)}")
        return [float(figures[name]) for name in names]

    def table(self, path: str, columns: Collection[str] = ()) -> list[dict[str, str]]:
        """The rows of a CSV file that Git tracks and a stage wrote. Raises Missing where there is none, where it is not
        what the stage wrote, or where it is no table with these columns."""
        try:
            return tables.parse(self.written(path), columns)
        except tables.TableError as error:
            raise self._no_table(path, error) from None

    def values(self, path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The values of these columns, of two or more, row by row. Raises as `table` does, also while rows are read."""
        content = self.written(path)
        try:
            rows = tables.Rows(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=""), columns)
            yield from map(itemgetter(*map(rows.columns.index, columns)), rows.values())
        except tables.TableError as error:
            raise self._no_table(path, error) from None

    def written(self, path: str) -> bytes:
        """A file that Git tracks and a stage wrote. Raises Missing where it is not what dvc.lock says of it."""
        content = self.read(path)
        if content is None:
            raise Missing(f"{path}: not in {self}. {self._remedy(path)}")
        lock = self.claim_lock if path.startswith(f"{CLAIM}/") else self.lock
        if lock is None or hashlib.md5(content).hexdigest() != hashes(lock, "outs").get(path):
            raise Missing(f"{path}: not what the run wrote; changed after it, in {self}. {self._remedy(path)}")
        return content

    @contextmanager
    def tracked_rows(
        self, path: str, columns: Collection[str] = (), *, recorded: bool = False
    ) -> Iterator[tables.Rows]:
        """A CSV file that DVC tracks, to be read row by row. `recorded`: it must be what dvc.lock says. Raises Missing
        where it cannot be had, and, also while rows are read, where it is no table with these columns."""
        with self.opened(path) as stream:
            if recorded and hashlib.file_digest(stream, "md5").hexdigest() != self.digest(path):
                raise Missing(f"{path}: not what the run wrote; changed after it. `dvc checkout` restores it.")
            stream.seek(0)
            try:
                yield tables.Rows(io.TextIOWrapper(stream, encoding="utf-8", newline=""), columns)
            except tables.TableError as error:
                raise self._no_table(path, error) from None

    def _no_table(self, path: str, error: tables.TableError) -> Malformed:
        return Malformed(f"{path}: not a CSV table in {self} ({error}). {self._remedy(path)}")

    def tracked(self, path: str) -> bytes:
        """A file that DVC tracks: from the working tree, this clone's cache, or its default remote. Raises Missing."""
        with self.opened(path) as stream:
            return stream.read()

    @contextmanager
    def opened(self, path: str) -> Iterator[store.Stream]:
        """The same as a file, for what need not be in memory at once. Raises Missing."""
        with ExitStack() as stack:
            stream: store.Stream | None = None
            if self.commit is None:
                # Where DVC's cache is linked to, the cache has it.
                with suppress(Malformed):
                    stream = stack.enter_context(self._opened_here(path))
            if stream is None:
                digest = self.digest(path)
                try:
                    stream = stack.enter_context(store.opened(digest, ask_remote=self.ask_remote))
                except store.NotHere as reason:
                    raise Missing(f"{path}: of {self}, {reason}. {self._getting(path)}") from None
            yield stream

    def digest(self, path: str) -> str:
        """The MD5 of an output, or of a file in a folder that is one. Raises Missing."""
        made = hashes(self.lock, "outs")
        out = next((out for out in made if path == out or path.startswith(f"{out}/")), None)
        if out is None or not made[out]:
            raise Missing(f"{path}: {self} has no such output. {self._remedy(path)}")
        if path == out:
            return made[out]
        inside = self.listing(out)
        if path not in inside:
            raise Missing(f"{path}: {self} has no such file in {out}. {self._remedy(path)}")
        return inside[path]

    def listing(self, folder: str) -> dict[str, str]:
        """The MD5 of each file of a folder that is an output, by its path in the project. Raises Missing."""
        try:
            content = store.read(hashes(self.lock, "outs")[folder], ask_remote=self.ask_remote)
            listed = dvc_files.require_listing(parse_json(content))
        except store.NotHere as reason:
            raise Missing(f"{folder}: of {self}, {reason}. {self._getting(folder)}") from None
        except ValueError as error:
            raise Malformed(f"{folder}: not DVC's list of a folder in {self} ({error}). {self._remedy()}") from None
        return {f"{folder}/{path}": digest for path, digest in listed.items()}

    def pointer(self, path: str) -> str | None:
        """The digest that path.dvc names; None where this revision has no such file. Raises Malformed."""
        name = f"{path}.dvc"
        if self.read(name) is None:
            return None
        try:
            return dvc_files.require_pointer(self._parse(name, plain_yaml.parse), PurePosixPath(path).name)
        except ValueError as error:
            raise Malformed(
                f"{name}: not a file that `dvc add` wrote, in {self} ({error}). `git checkout` an older one, or "
                f"`dvc add {path}`."
            ) from None

    @cached_property
    def manifest(self) -> "Manifest":
        """prepared/manifest.csv in columns, with a row for each file in data/. Raises Missing."""
        # NumPy, which few verbs need.
        from review.manifest import Manifest

        try:
            return Manifest.read(self._manifest_rows)
        except ValueError as error:
            raise Malformed(f"{MANIFEST}: in {self}, {error}. {self._remedy(MANIFEST)}") from None

    @contextmanager
    def _manifest_rows(self) -> Iterator[Iterable[tuple[str, ...]]]:
        with self.tracked_rows(MANIFEST, MANIFEST_COLUMNS) as rows:
            yield map(itemgetter(*map(rows.columns.index, MANIFEST_COLUMNS)), rows.values())

    @cached_property
    def lock(self) -> Lock:
        """dvc.lock. Raises Missing."""
        if self.read("dvc.lock") is None:
            raise Missing(f"dvc.lock: not in {self}. {self._remedy()}")
        return self._checked("dvc.lock", dvc_files.require_lock)

    @cached_property
    def declared(self) -> dict[str, Any]:
        """dvc.yaml; empty where this revision has none. Raises Malformed where it is another form."""
        return self._checked("dvc.yaml", dvc_files.require_declared)

    @cached_property
    def claim_lock(self) -> Lock | None:
        """claim/dvc.lock; None where this revision has none. Raises Malformed."""
        return self._lock_in(CLAIM)

    @cached_property
    def claim_declared(self) -> dict[str, Any]:
        """claim/dvc.yaml; empty where this revision has none. Raises Malformed where it is another form."""
        return self._declared_in(CLAIM)

    @cached_property
    def export_lock(self) -> Lock | None:
        """export/dvc.lock; None where this revision has none. Raises Malformed."""
        return self._lock_in(EXPORT)

    @cached_property
    def export_declared(self) -> dict[str, Any]:
        """export/dvc.yaml; empty where this revision has none. Raises Malformed where it is another form."""
        return self._declared_in(EXPORT)

    def _lock_in(self, folder: str) -> Lock | None:
        path = f"{folder}/dvc.lock"
        return None if self.read(path) is None else self._checked(path, dvc_files.require_lock)

    def _declared_in(self, folder: str) -> dict[str, Any]:
        return self._checked(f"{folder}/dvc.yaml", lambda content: dvc_files.require_declared(content, wdir=".."))

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics files that dvc.yaml declares, by path. Raises Missing where there is none.

        Read from Git, where this project keeps them: DVC's own way opens the whole project at each revision first.
        """
        stages = self.declared.get("stages", {}).values()
        # Metrics are a kind of outputs; plots and other outputs are read elsewhere.
        paths = [path for stage in stages for path, _ in dvc_files.outputs({"metrics": stage.get("metrics", [])})]
        found = {path: self.json(path) for path in paths if self.read(path) is not None}
        if not found:
            raise Missing(f"metrics: {self} has none. {self._remedy()}")
        return found

    @property
    def declared_metrics(self) -> list[str]:
        """The metrics files that dvc.yaml names beside its stages, where DVC looks for them, too. Raises Malformed."""
        return dvc_files.named_metrics(self.declared)

    @property
    def commands(self) -> dict[str, str]:
        """The command of each stage, those of claim and export among them. Raises Malformed."""
        files = (self.declared, self.claim_declared, self.export_declared)
        stages = {name: stage for file in files for name, stage in file.get("stages", {}).items()}
        return {name: stage["cmd"] for name, stage in stages.items()}

    def outputs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What all stages of dvc.yaml and export/dvc.yaml write. Raises Malformed."""
        for declared in (self.declared, self.export_declared):
            for stage in declared.get("stages", {}).values():
                yield from dvc_files.outputs(stage)

    def files(self, folder: str) -> list[str]:
        """The files below a folder that Git tracks. Raises Malformed."""
        if self.commit is None:
            return [path for path in self._tracked if path.startswith(f"{folder}/")]
        try:
            return git.files(self.commit, folder)
        except git.TooLargeError as error:
            raise Malformed(str(error)) from None

    def top_level(self) -> list[str]:
        """The names of files and folders at the top that Git tracks."""
        if self.commit is None:
            return sorted({path.split("/")[0] for path in self._tracked})
        return git.top_level(self.commit)

    @cached_property
    def params(self) -> dict[str, Any]:
        """params.yaml; empty where this revision has none. Raises Malformed where it is not YAML."""
        content = self.document("params.yaml")
        if content is None:
            return {}
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise Malformed(f"params.yaml: expected one `key: value` per line in {self}.")
        return content

    def _checked(self, path: str, require: Callable[[Any], Parsed]) -> Parsed:
        parsed = self._parse(path, plain_yaml.parse)
        try:
            return require(parsed)
        except ValueError as error:
            raise Malformed(f"{path}: not what DVC writes, in {self} ({error}). {self._remedy(path)}") from None

    def _parse(self, path: str, parse: Callable[[bytes], Any]) -> Any:
        try:
            return parse(self.read(path) or b"")
        except DocumentError as error:
            raise Malformed(f"{path}: not YAML in {self} ({error}). {self._remedy(path)}") from None

    def _getting(self, path: str) -> str:
        if self.commit is None:
            return f"`dvc pull {path}` gets it, where it was pushed; `dvc repro` makes it."
        return (
            "Whoever made it types `dvc push` at that revision; or `git worktree add ../there "
            f"{self.commit[:12]}` and `make repro` in it make it again."
        )

    def _remedy(self, path: str = "") -> str:
        claimed = path.startswith(f"{CLAIM}/")
        if self.commit is None:
            return f"`make {'claim' if claimed else 'repro'}` makes it."
        return f"Choose a revision that was committed after `{'make claim' if claimed else 'dvc repro'}`."


_LANGUAGES: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    ".yaml": ("YAML", plain_yaml.parse),
    ".yml": ("YAML", plain_yaml.parse),
    ".json": ("JSON", parse_json),
    ".toml": ("TOML", parse_toml),
}
