"""What review asks of Git: commits, names, files at a commit, the state of the working tree."""

import subprocess
from functools import cache
from pathlib import Path

from stages.common.errors import UserError

# Where DVC keeps its experiments: refs/exps/<2 digits>/<38 digits of the commit they started from>/<name>.
_EXPERIMENTS = "refs/exps"


def git(*arguments: str | Path) -> str:
    """What Git prints. UserError with Git's own words where it refuses."""
    done = _run(*arguments)
    if done.returncode:
        raise UserError(f"git {' '.join(map(str, arguments))}: {_text(done.stderr).strip() or 'failed'}")
    return _text(done.stdout)


def show(revision: str, path: str) -> bytes | None:
    """The content of a file at a revision; None where there is no such file. UserError outside a repository."""
    batch = _batch()
    assert batch.stdin is not None and batch.stdout is not None
    batch.stdin.write(f"{revision}:{path}\n".encode())
    batch.stdin.flush()
    # <name> missing, or <object> <type> <size> and the content
    answer = batch.stdout.readline().split(b" ")
    if answer[-1] in (b"missing\n", b"ambiguous\n"):
        return None
    content = batch.stdout.read(int(answer[-1]) + 1)[:-1]
    return content if answer[1] == b"blob" else None


def files(revision: str, folder: str) -> list[str]:
    """The paths of all files below a folder at a revision."""
    return [
        path for path in git("ls-tree", "-r", "-z", "--name-only", revision, "--", f"{folder}/").split("\0") if path
    ]


@cache
def _batch() -> "subprocess.Popen[bytes]":
    """One process for all files: a process for each would take longer than the rest of a comparison."""
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
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", f"{_EXPERIMENTS}/").splitlines()
    pairs = [line.split(" ") for line in lines]
    # Two digits and 38 make a commit; DVC keeps its queue under names that do not.
    return {name: commit for name, commit in pairs if len("".join(name.split("/")[2:4])) == 40}


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


def require_merged() -> None:
    """UserError where a merge is under way."""
    unmerged = git("diff", "--name-only", "--diff-filter=U").split()
    if unmerged:
        raise UserError(f"unmerged files: {', '.join(unmerged)}. Finish the merge (dvc.lock: take either side, repro).")


def changed_files() -> list[str]:
    """Tracked files that differ from HEAD, and untracked ones that Git does not ignore."""
    return [line[3:] for line in git("status", "--porcelain").splitlines()]


def _run(*arguments: str | Path) -> "subprocess.CompletedProcess[bytes]":
    try:
        done = subprocess.run(["git", *arguments], capture_output=True)
    except FileNotFoundError:
        raise UserError("git: not installed. Install it; without it nothing can be compared.") from None
    if done.returncode and b"not a git repository" in done.stderr:
        raise UserError("not a Git repository; run this in the project's clone.")
    return done


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
