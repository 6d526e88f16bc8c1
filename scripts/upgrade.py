"""Merge a later version of the scaffold into a project: `make upgrade`.

An ordinary `git merge` of the remote `upstream`, after which what is the project's own (scripts/own_files.py) is as it
was: Git alone would take upstream's params where the project has not changed them, and stop where one side has removed
a result that the other has changed. A merge driver in .gitattributes is asked in neither case, so this is a program.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from review import git
from scripts.own_files import FRONT_PAGE, PYPROJECT, README, front_page, is_own, is_scaffold
from stages.common import corrections, escape
from stages.common.errors import UserError, listed, run_main
from stages.common.params import PARAMS_FILE

REMOTE = "upstream"
CHANGELOG = "CHANGELOG.md"
_BACK = "`git merge --abort` goes back to where you were."


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.upgrade", description="Merge the scaffold's later version."
    )
    parser.add_argument("to", nargs="?", default="HEAD", metavar="REVISION", help="a branch, tag or commit of upstream")
    to = parser.parse_args().to
    require_ready(to)
    new = fetch(to)
    old = git.resolve("HEAD")
    if git.merge_base(old, new) == new:
        print(f"upgrade: {new[:7]} is in this project already")
        return
    merge(new)
    keep_own(old, new)
    notes = _merge_pins(old, new)
    print(escape.message(_changes(old, new)))
    if conflicts := git.unmerged():
        raise UserError(
            f"upgrade: both the project and the scaffold have changed\n{listed(conflicts)}\nEdit them, `git add` them, "
            f"then `python -m stages.params --add-missing && git add {PARAMS_FILE} && git commit`. {_BACK}"
        )
    notes += add_params()
    git.git("commit", "--quiet", "--message", f"Merge {new[:7]} of the scaffold")
    print(f"upgrade: merged {new[:7]}")
    for note in notes:
        print(escape.message(f"upgrade: {note}"))
    print(_stale_stages())


def require_ready(to: str) -> None:
    """UserError where this is no project, or a merge would meet changes."""
    if not re.fullmatch(r"\w[\w./-]*", to, re.ASCII):
        raise UserError(f"TO: expected a branch, tag or commit of {REMOTE}, got {to!r}.")
    if is_scaffold():
        raise UserError("this is the scaffold itself; `make new NAME=…` begins a project of one's own.")
    if Path(git.git("rev-parse", "--git-path", "MERGE_HEAD").strip()).exists():
        raise UserError(f"a merge is under way. Finish it by `git commit`, or: {_BACK}")
    git.require_unchanged("upgrade")
    if REMOTE not in git.git("remote").split():
        raise UserError(f"no remote {REMOTE} here. `git remote add {REMOTE} <url of the scaffold>`, then run again.")


def fetch(to: str) -> str:
    """The commit that `upstream` calls `to`. Its tags stay there: the project has its own."""
    git.git("fetch", "--quiet", "--no-tags", REMOTE)
    git.git("fetch", "--quiet", "--no-tags", REMOTE, to)
    return git.resolve("FETCH_HEAD")


def merge(new: str) -> None:
    """Merge, without a commit. UserError where Git does not begin, which changes nothing."""
    done = subprocess.run(
        ["git", "merge", "--no-commit", "--no-ff", "--quiet", new],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode and not git.unmerged():
        raise UserError(f"git merge: {(done.stderr or done.stdout).strip()}\nNothing was changed.")


def keep_own(old: str, new: str) -> None:
    """Put what is the project's own back as it is at `old`, whatever the merge made of it; its copy of the scaffold's
    front page is that of `new`."""
    mine = {path for path in git.git("ls-tree", "-r", "--name-only", "-z", old).split("\0") if is_own(path)}
    merged = {path for path in git.tracked() if is_own(path)}
    if others := sorted(merged - mine):
        git.git("rm", "--quiet", "--force", "--", *others)
    if mine:
        git.git("checkout", old, "--", *sorted(mine))
    # A stage of the scaffold reads it, and a project that is older has none.
    if str(corrections.FILE) in others:
        corrections.write(corrections.FILE, [])
        git.git("add", "--", str(corrections.FILE))
    readme = git.show(new, str(README))
    if readme is not None and git.exists(old, str(FRONT_PAGE)):
        Path(FRONT_PAGE).write_text(front_page(readme.decode()), encoding="utf-8")
        git.git("add", "--", str(FRONT_PAGE))


def add_params() -> list[str]:
    """Write the params that are new into params.yaml, with their defaults and comments; what remains to be done."""
    command = [sys.executable, "-m", "stages.params", "--add-missing"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    print(escape.message(done.stdout), end="")
    git.git("add", "--", str(PARAMS_FILE))
    return [f"params.yaml needs you: {done.stderr.strip().removeprefix('error: ')}"] if done.returncode else []


def _merge_pins(old: str, new: str) -> list[str]:
    """Of pyproject.toml, the table [project] is the project's own; a lock that both have changed is upstream's, until
    `make lock` writes it anew."""
    unmerged = git.unmerged()
    if PYPROJECT in unmerged:
        _retry_pyproject(old, new)
    notes = []
    for lock in [path for path in unmerged if re.fullmatch(r"requirements(-\w+)?\.lock", path)]:
        if git.exists(new, lock):
            git.git("checkout", new, "--", lock)
            notes.append(f"{lock}: upstream's; `make lock` writes it anew, with the project's own pins")
    if not notes and git.show(old, "requirements.lock") != git.show(new, "requirements.lock"):
        notes.append("requirements.lock has changed; the next `make` installs it")
    return notes


def _retry_pyproject(old: str, new: str) -> None:
    """Merge pyproject.toml again as if nobody had changed the table [project] since `old`."""
    table = re.compile(r"^\[project\]\n(?:.+\n)*", re.M)
    base = git.merge_base(old, new)
    texts = [(git.show(revision, PYPROJECT) or b"").decode() for revision in (old, base, new)]
    own = table.search(texts[0])
    if own is None:
        return
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, name) for name in ("project", "base", "scaffold")]
        for file, text in zip(files, texts, strict=True):
            file.write_text(table.sub(lambda _: own[0], text, count=1), encoding="utf-8")
        done = subprocess.run(["git", "merge-file", "--stdout", *files], capture_output=True)
    if done.returncode == 0:
        Path(PYPROJECT).write_bytes(done.stdout)
        git.git("add", "--", PYPROJECT)


def _changes(old: str, new: str) -> str:
    """The entries of CHANGELOG.md that the project has not seen."""
    seen, there = ((git.show(revision, CHANGELOG) or b"").decode("utf-8", "replace") for revision in (old, new))
    entries = [entry.strip() for entry in re.split(r"^(?=## )", there, flags=re.M)[1:]]
    return "\n\n".join(entry for entry in entries if entry not in seen) or f"upgrade: nothing new in {CHANGELOG}"


def _stale_stages() -> str:
    """Which stages have to run again, and why, by `dvc status`; images and weights that are not here say nothing."""
    if not Path("dvc.lock").exists():
        return "upgrade: no stage has run yet"
    done = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "status", "--json"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        return f"upgrade: `dvc status` fails: {done.stderr.strip()}"
    lines = []
    for stage, reasons in json.loads(done.stdout).items():
        changed = [what for reason in reasons for what in _changed(reason)]
        if changed:
            lines.append(f"{stage}: {', '.join(changed)}")
    if not lines:
        return "upgrade: the committed result is still that of the code and params"
    return f"upgrade: stale, and everything after it; `make repro` runs it again:\n{listed(lines)}"


def _changed(reason: object) -> list[str]:
    """What one reason of `dvc status` names."""
    if isinstance(reason, str):
        return ["command"] if reason == "changed command" else []
    if not isinstance(reason, dict):
        return []
    deps = reason.get("changed deps", {})
    names = []
    for path, state in deps.items():
        if isinstance(state, dict):  # params of a file
            names += [key for key, how in state.items() if how != "deleted"]
        elif state != "deleted":
            names.append(path)
    return names


if __name__ == "__main__":
    run_main(main)
