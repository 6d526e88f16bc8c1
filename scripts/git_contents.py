"""What Git has of a branch, or would take: the working tree, what is staged, what its commits added and say."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from review.git import git, is_shallow, main_branch
from stages.common.errors import UserError

# Of a larger file nothing is read.
LARGEST = 200 * 2**20
_SUBMODULE = "160000"


class Content(NamedTuple):
    """A file's bytes, None where they were not read; and which they are where not the working tree's: ` (staged)`."""

    path: str
    version: str
    data: bytes | None


class Contents(NamedTuple):
    """What is there now, what the branch's commits added, and what is to be said of the latter and of the rest."""

    current: Iterator[Content]
    earlier: Iterator[Content]
    said: str


def in_work_tree(path: str) -> Content:
    """Of a link, Git has the text that says where it leads, and nothing of what is there. Raises OSError."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return Content(path, "", os.fsencode(Path(path).readlink()))
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        return Content(path, "", None)
    return Content(path, "", Path(path).read_bytes())


def of_repository(since: str | None) -> Contents:
    """What Git tracks, what `git add .` would add, and the commits after `since` (default: those not in main).

    UserError where Git cannot list the files.
    """
    index = {}
    for entry in _records("ls-files", "-z", "--stage", "--cached"):
        about, _, path = entry.partition("\t")
        mode, blob, _ = about.split(" ")
        if mode != _SUBMODULE:
            index[path] = blob
    others = [path for path in _records("ls-files", "-z", "--others", "--exclude-standard") if not path.endswith("/")]
    # What `git commit` takes where it is not what the working tree has.
    changed = {path for path in _records("diff-files", "-z", "--name-only") if path in index}
    staged = [(index[path], path, " (staged)") for path in index if path in changed or not os.path.lexists(path)]
    commits, said = _commits(since)
    # A blob is known by its content.
    seen = {blob for path, blob in index.items() if path not in changed}
    return Contents(_current([*index, *others], staged), _earlier(commits, seen), said + _submodules())


def _current(paths: list[str], staged: list[tuple[str, str, str]]) -> Iterator[Content]:
    for path in paths:
        if os.path.lexists(path):
            yield in_work_tree(path)
    yield from _blobs(staged)


def _earlier(commits: list[str], seen: set[str]) -> Iterator[Content]:
    if commits:
        yield from _blobs(list(_added(commits, seen)))
        for record in _records("log", "-z", "--format=%H %B", *commits, "--"):
            commit, _, message = record.partition(" ")
            yield Content("message", f" of commit {commit[:12]}", os.fsencode(message))


def _commits(since: str | None) -> tuple[list[str], str]:
    """Which commits to read, as arguments of `git log`, and what is to be said of them."""
    if not _is_commit("HEAD"):
        return [], ""
    if since is None:
        try:
            since = main_branch()
        except UserError:
            return [], "; earlier commits were not read: there is no branch origin/HEAD, main or master"
    # What a push replaced, or a branch that it made, is no commit here: then all are read.
    commits = ["HEAD", "--not", since, "--"] if _is_commit(since) else ["HEAD", "--"]
    count = len(git("rev-list", *commits).split())
    said = f", in {count} commits{f' since {since}' if len(commits) > 2 else ''}"
    return commits[:-1], said + ("; this clone is shallow, and lacks older commits" if is_shallow() else "")


def _is_commit(name: str) -> bool:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def _added(commits: list[str], seen: set[str]) -> Iterator[tuple[str, str, str]]:
    """Blob, path and commit of what the commits added, once for each blob; of a merge, what neither parent has."""
    commit = about = ""
    options = ["-z", "--format=%H", "-c", "--raw", "--no-abbrev", "--no-renames", "--no-show-signature"]
    for record in _records("log", *options, *commits, "--"):
        # A commit; then for each file a colon for each parent, modes, blobs and what was done, and its path.
        if about:
            parents = len(about) - len(about.lstrip(":"))
            fields = about.lstrip(":").split(" ")
            mode, blob, about = fields[parents], fields[2 * parents + 1], ""
            if mode != _SUBMODULE and blob.strip("0") and blob not in seen:
                seen.add(blob)
                yield blob, record, f" (commit {commit[:12]})"
        elif record.startswith((":", "\n:")):
            about = record.lstrip("\n")
        else:
            commit = record


def _blobs(wanted: list[tuple[str, str, str]]) -> Iterator[Content]:
    """The contents of blobs; each is (blob, path, version)."""
    if not wanted:
        return
    with subprocess.Popen(["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as batch:
        assert batch.stdin is not None and batch.stdout is not None
        for blob, path, version in wanted:
            batch.stdin.write(f"{blob}\n".encode())
            batch.stdin.flush()
            size = int(batch.stdout.readline().split(b" ")[2])
            data = batch.stdout.read(size + 1)[:-1]
            yield Content(path, version, data if size <= LARGEST else None)


def _submodules() -> str:
    entries = [entry for entry in _records("ls-files", "-z", "--stage") if entry.startswith(_SUBMODULE)]
    return f"; not in {len(entries)} submodules, which are repositories of their own" if entries else ""


def _records(*command: str) -> list[str]:
    """What Git prints with -z. Names need not be UTF-8 (PEP 383)."""
    done = subprocess.run(["git", *command], capture_output=True)
    if done.returncode:
        raise UserError(f"secrets: git cannot list the files here: {os.fsdecode(done.stderr).strip()}")
    return [os.fsdecode(record) for record in done.stdout.split(b"\0") if record]
