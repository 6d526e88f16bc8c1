"""What review asks of Git: commits, names, files at a commit, the state of the working tree."""

import os
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from stages.common.errors import UserError, listed

# Where DVC keeps its experiments: refs/exps/<2 digits>/<38 digits of the commit they started from>/<name>.
_EXPERIMENTS = "refs/exps"
# What GitHub takes at most as a file in Git.
MOST_BYTES = 100 << 20
_MOST_FILES = 10_000
# Whose: PGP, SSH or X.509.
_SIGNATURE = re.compile(r"^-----BEGIN ", re.MULTILINE)


class TooLargeError(UserError):
    """A file or a folder in Git of a size that nothing of this project has."""


def git(*arguments: str | Path) -> str:
    """What Git prints. UserError with Git's own words where it refuses."""
    done = _run(*arguments)
    if done.returncode:
        raise UserError(f"git {' '.join(map(str, arguments))}: {_text(done.stderr).strip() or 'failed'}")
    return _text(done.stdout)


def show(revision: str, path: str) -> bytes | None:
    """The content of a file at a revision; None where there is no such file, or a link or submodule in its place.
    UserError outside a repository, TooLargeError where the file has more than MOST_BYTES."""
    entry = _entry(revision, path)
    found = _object(entry.id, f"{path} at {revision}") if entry and entry.is_file else None
    return found and found.content


def exists(revision: str, path: str) -> bool:
    """Whether a revision has anything of this name: a file, a folder, a link or a submodule."""
    return _entry(revision, path) is not None


def files(revision: str, folder: str) -> list[str]:
    """The paths of all files below a folder at a revision; links and submodules are none. TooLargeError where there are
    more than _MOST_FILES: trees that name each other stand for any number in a few bytes."""
    top = _entry(revision, folder)
    found: list[str] = []
    folders = [(folder, top)] if top else []
    while folders:
        parent, entry = folders.pop()
        if not entry.is_folder:
            continue
        for name, below in _tree(entry.id).items():
            path = f"{parent}/{name}"
            if below.is_folder:
                folders.append((path, below))
            elif below.is_file:
                found.append(path)
            if len(found) + len(folders) > _MOST_FILES:
                raise TooLargeError(f"{folder} at {revision}: more than {_MOST_FILES:,} files, which no code has.")
    return sorted(found)


def top_level(revision: str) -> list[str]:
    """The names of all that lies at the top of a revision."""
    return sorted(_tree(f"{revision}^{{tree}}"))


def is_link(revision: str, path: str) -> bool:
    """Whether a link has this name at a revision."""
    entry = _entry(revision, path)
    return entry is not None and entry.mode == b"120000"


class _Entry(NamedTuple):
    """What a tree of Git says of a name: the octal mode, and the object's digest."""

    mode: bytes
    id: str

    @property
    def is_file(self) -> bool:
        return self.mode in (b"100644", b"100755", b"100664")

    @property
    def is_folder(self) -> bool:
        return self.mode == b"40000"


def _entry(revision: str, path: str) -> _Entry | None:
    """Found from tree to tree, so that Git is asked for digests alone, whatever a path is made of."""
    entry: _Entry | None = _Entry(b"40000", f"{revision}^{{tree}}")
    for part in path.split("/"):
        entry = _tree(entry.id).get(part) if entry and entry.is_folder else None
    return entry


@cache
def _tree(name: str) -> dict[str, _Entry]:
    """The entries of a tree: `<mode> <name>`, a zero byte and the digest's bytes, for each."""
    found = _object(name, f"tree {name}")
    if found is None:
        return {}
    size = len(found.id) // 2
    entries = {}
    start = 0
    while (end := found.content.find(b"\0", start)) > 0:
        mode, _, file = found.content[start:end].partition(b" ")
        start = end + 1 + size
        entries[os.fsdecode(file)] = _Entry(mode, found.content[end + 1 : start].hex())
    return entries


class _Object(NamedTuple):
    id: str
    kind: str
    content: bytes


def _object(name: str, what: str) -> _Object | None:
    """An object by its digest, or by the name of a revision and `^{tree}`; None where this clone lacks it.
    TooLargeError where it has more than MOST_BYTES."""
    batch = _batch()
    assert batch.stdin is not None and batch.stdout is not None and "\n" not in name
    batch.stdin.write(f"{name}\n".encode())
    batch.stdin.flush()
    # <name> missing, or <digest> <type> <size> and the content
    answer = batch.stdout.readline().split(b" ")
    if len(answer) != 3 or not answer[2].strip().isdigit():
        return None
    size = int(answer[2])
    if size > MOST_BYTES:
        # What it would send cannot be left unread.
        batch.kill()
        _batch.cache_clear()
        raise TooLargeError(f"{what}: {size:,} bytes; expected {MOST_BYTES:,} at most of a file in Git.")
    return _Object(answer[0].decode("ascii"), answer[1].decode("ascii"), batch.stdout.read(size + 1)[:-1])


@cache
def _batch() -> "subprocess.Popen[bytes]":
    """One process for all objects: a process for each would take longer than the rest of a comparison."""
    git("rev-parse", "--git-dir")
    return subprocess.Popen(
        ["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def resolve(name: str) -> str:
    """The commit that a Git revision or the name of a DVC experiment means. UserError where nothing has this name."""
    done = _run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode == 0:
        return _text(done.stdout).strip()
    found = [commit for experiment, commit in experiments().items() if experiment.split("/")[-1] == name]
    if len(set(found)) == 1:
        return found[0]
    if found:
        raise UserError(f"{name}: {len(found)} experiments have this name. Give the commit: `dvc exp show` lists them.")
    hint = " This clone is shallow: `git fetch --unshallow` gets the rest." if is_shallow() else ""
    raise UserError(
        f"{name}: no such revision or experiment here. `git log` and `dvc exp show` list them; `git fetch` and "
        f"`dvc exp pull origin {name}` get those of others.{hint}"
    )


def experiments() -> dict[str, str]:
    """The commits of all DVC experiments in this clone, by reference; queued ones are not among them."""
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", f"{_EXPERIMENTS}/").split("\n")
    pairs = [line.split(" ") for line in lines if line]
    # Two digits and 38 make a commit; DVC keeps its queue under names that do not.
    return {name: commit for name, commit in pairs if len("".join(name.split("/")[2:4])) == 40}


def tags() -> dict[str, str]:
    """The objects that the tags in this clone name, by the tags' names: mostly tag objects and commits."""
    folder = "refs/tags/"
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", folder).split("\n")
    pairs = [line.split(" ") for line in lines if line]
    return {name.removeprefix(folder): digest for digest, name in pairs}


class Commit(NamedTuple):
    """A commit, and when it was made; None where it does not say so in a form that Git writes."""

    id: str
    date: datetime | None


def commit(name: str) -> Commit | None:
    """The commit behind an object, which may be a tag; None where there is none in this clone."""
    found = _object(f"{name}^{{commit}}", name)
    if found is None:
        return None
    written = re.search(rb"^committer [^\n]*> (\d{1,11}) [+-]\d{4}$", found.content.partition(b"\n\n")[0], re.MULTILINE)
    return Commit(found.id, datetime.fromtimestamp(int(written[1]), UTC) if written else None)


def tag_message(name: str) -> str | None:
    """The message of a tag object, without its signature; None for another kind of object, which has no message of a
    tag. TooLargeError where it has more than MOST_BYTES."""
    found = _object(name, name)
    if found is None or found.kind != "tag":
        return None
    return _SIGNATURE.split(_text(found.content.partition(b"\n\n")[2]), maxsplit=1)[0]


def changes_of(path: str) -> list[str]:
    """The commits that changed a file, of all branches, tags and experiments in this clone."""
    return git("rev-list", "--all", "--", path).split()


def tags_before(commit: str) -> list[str]:
    """The tags of a commit's ancestors, newest first, without its own."""
    own = set(git("tag", "--points-at", commit).split("\n"))
    names = git("tag", "--merged", commit, "--sort=-creatordate").split("\n")
    return [name for name in names if name and name not in own]


def main_branch() -> str:
    """The branch that changes go into: what the remote `origin` calls its HEAD, else main or master.

    UserError where there is none of them.
    """
    done = _run("rev-parse", "--abbrev-ref", "origin/HEAD")
    names = [_text(done.stdout).strip()] if done.returncode == 0 else []
    for name in [*names, "origin/main", "main", "origin/master", "master"]:
        if _run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0:
            return name
    raise UserError("no branch origin/HEAD, main or master here. Name the revision to compare with.")


def merge_base(one: str, other: str) -> str:
    """The newest common ancestor of two revisions. UserError where there is none, as in a shallow clone."""
    done = _run("merge-base", one, other)
    if done.returncode:
        remedy = (
            "This clone is shallow: `git fetch --unshallow`" if is_shallow() else "Name the revision to compare with"
        )
        raise UserError(f"{one} and {other} have no common ancestor here. {remedy}.")
    return _text(done.stdout).strip()


def is_valid_tag(name: str) -> bool:
    """Whether Git takes this name."""
    return _run("check-ref-format", f"refs/tags/{name}").returncode == 0 and not name.startswith("-")


def is_shallow() -> bool:
    """Whether this clone lacks older commits."""
    return _text(_run("rev-parse", "--is-shallow-repository").stdout).strip() == "true"


def require_top_level() -> None:
    """UserError in a subfolder of a repository: of the project, or of a repository that has the project in it."""
    prefix = _text(_run("rev-parse", "--show-prefix").stdout).strip()
    if not prefix:
        return
    if Path("dvc.yaml").exists():
        raise UserError(
            f"the project is in the subfolder {prefix} of a Git repository; expected a repository of its own. As a Git "
            "submodule, it can be in another one."
        )
    raise UserError(f"this is the subfolder {prefix} of a repository. Run it in the project's folder.")


def require_merged() -> None:
    """UserError where a merge is under way."""
    if files := unmerged():
        raise UserError(f"unmerged files: {', '.join(files)}. Finish the merge (dvc.lock: take either side, repro).")


def unmerged() -> list[str]:
    """Files that a merge under way could not merge."""
    return _names(git("diff", "--name-only", "-z", "--diff-filter=U"))


def require_unchanged(verb: str) -> None:
    """UserError where there are changes that `verb` would mix with its own."""
    if changed := changed_files():
        raise UserError(
            f"{verb}: expected a clone without changes, got\n{listed(changed)}\nCommit them, or put them away by "
            "`git stash --include-untracked`, then run again."
        )


def changed_files() -> list[str]:
    """Tracked files that differ from HEAD, and untracked ones that Git does not ignore."""
    return [entry[3:] for entry in _names(git("status", "--porcelain", "-z", "--no-renames"))]


def tracked() -> set[str]:
    """The files in Git's index."""
    return set(_names(git("ls-files", "-z")))


def _run(*arguments: str | Path) -> "subprocess.CompletedProcess[bytes]":
    try:
        done = subprocess.run(["git", *arguments], capture_output=True)
    except FileNotFoundError:
        raise UserError("git: not installed. Install it; without it nothing can be compared.") from None
    if done.returncode and b"not a git repository" in done.stderr:
        raise UserError("not a Git repository; run this in the project's clone.")
    return done


def _names(output: str) -> list[str]:
    """The names in an output of Git's option -z, which ends each with a zero byte and quotes none."""
    return [name for name in output.split("\0") if name]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
