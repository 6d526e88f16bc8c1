"""Begin a project of one's own in a clone of the scaffold: `make new NAME=birds`.

The name in README.md and pyproject.toml, without the sample and its result, is one commit on main after the scaffold's
history, which stays: what the scaffold changes later then comes by an ordinary merge from the remote `upstream`
(`make upgrade`). The commit is made before the working tree changes, and moving main to it is the last step:
what was interrupted can be run again.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from review import git
from scripts.own_files import FRONT_PAGE, PYPROJECT, README, RESULT, SCAFFOLD, front_page, is_scaffold
from scripts.sample import DVC_MD5
from stages.common import corrections
from stages.common.errors import UserError, run_main
from stages.common.versions import DATA, LOCK, POINTER, folder_name, locked_versions, md5_of

MAIN = "main"
_LONGEST_NAME = 64
_README = """# {name}

What it classifies, from which images, and how well: write it here. A figure belongs to the commit that it was measured
at; `make summary` prints it.

```sh
make repro
```

creates `.venv` from `requirements.lock`, gets the images that `data.dvc` names, trains if something has changed since
the last result, and shows the result.

{documentation}Made with [{scaffold}]({front_page}); `make upgrade` merges its changes ([CHANGELOG.md](CHANGELOG.md)).
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.new", description="Begin a project of one's own.")
    parser.add_argument("name", help="the project's name: letters, digits, '-', '_' and '.'")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="in a new clone there (default: in this one)")
    parser.add_argument("--sample", choices=("drop", "keep"), default="drop", help="the sample and its result")
    arguments = parser.parse_args()
    require_name(arguments.name)
    require_fresh()
    if arguments.to is None:
        begin(arguments.name, keep_sample=arguments.sample == "keep")
    else:
        begin_in(arguments.to, arguments.name, keep_sample=arguments.sample == "keep")


def require_name(name: str) -> None:
    """UserError for what cannot stand as a name in README.md, pyproject.toml (PEP 508) and on a command line."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name) or len(name) > _LONGEST_NAME:
        raise UserError(
            f"NAME: expected the project's name, of letters, digits, '-', '_' and '.', at most {_LONGEST_NAME}, "
            f"got {name!r}. Such as: make new NAME=birds"
        )
    if name == SCAFFOLD or os.path.lexists(name):
        what = "the scaffold's own name" if name == SCAFFOLD else "a file or folder that is here"
        raise UserError(f"NAME: {name} is {what}. Choose another name; TO=FOLDER says where the project is made.")


def require_fresh() -> None:
    """UserError where this is no clone of the scaffold, on main, in which nothing was changed."""
    top = git.git("rev-parse", "--show-toplevel").strip()
    if Path(top).resolve() != Path.cwd().resolve():
        raise UserError(f"{top}: the Git repository has this folder inside it. Begin in a clone of the scaffold alone.")
    if not is_scaffold():
        raise UserError(
            f"{README} is not the scaffold's any more: this is a project already. Nothing was changed. Another one "
            "begins in another clone of the scaffold."
        )
    branch = git.git("branch", "--show-current").strip()
    if branch != MAIN:
        raise UserError(f"expected the branch {MAIN}, got {branch or 'no branch'}. `git switch {MAIN}` first.")
    git.require_unchanged("new")


def begin_in(folder: Path, name: str, *, keep_sample: bool) -> None:
    """Begin in a new clone. UserError where the folder is there; none is left where it fails."""
    if os.path.lexists(folder):
        raise UserError(f"TO: {folder} is there already. Name a folder that is not.")
    origin = _remotes().get("origin", str(Path.cwd()))
    target = folder.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as place:
        clone = Path(place, "project")
        print(f"new: a clone in {folder}/")
        git.git("clone", "--quiet", "--no-tags", "--branch", MAIN, Path.cwd(), clone)
        # A clone's own address may be a folder, named from here.
        address = str(Path(origin).resolve()) if Path(origin).exists() else origin
        os.chdir(clone)
        git.git("remote", "set-url", "origin", address)
        begin(name, keep_sample=keep_sample)
        os.chdir(target.parent)
        clone.rename(target)


def begin(name: str, *, keep_sample: bool) -> None:
    """Make the project in the current folder, which `require_fresh` accepts. UserError where Git refuses."""
    leave = [] if keep_sample else [path for path in (*RESULT, str(POINTER)) if git.exists("HEAD", path)]
    leftovers, kept = ([], []) if keep_sample else _of_the_sample()
    remotes = _remotes()
    print(f"new: {name}, in one commit on {MAIN} after the scaffold's history:")
    print(f"  {README}, with the name and links to the documentation; the scaffold's own is {FRONT_PAGE}")
    print(f'  {PYPROJECT}: name = "{name}"')
    if keep_sample:
        print("  the sample and its result stay")
    else:
        print(f"  without the sample and its result: {', '.join(leave)}")
        print(f"  {corrections.FILE}, without decisions about images")
    for path in leftovers:
        print(f"  removed here: {path}, which is the sample's")
    for path in kept:
        print(f"  kept here: {path}, which is not the sample's; Git does not see it")
    commit = _commit(name, leave, {} if keep_sample else {str(corrections.FILE): corrections.text([])})
    if "origin" in remotes and "upstream" not in remotes:
        git.git("remote", "rename", "origin", "upstream")
        # A push must not go to the scaffold, and its tags are not the project's.
        subprocess.run(["git", "branch", "--unset-upstream", MAIN], capture_output=True)
        git.git("config", "remote.upstream.tagOpt", "--no-tags")
        print("  the remote origin is upstream now")
    for path in leftovers:
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    done = subprocess.run(
        ["git", "merge", "--quiet", "--ff-only", commit], capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        said = done.stderr.strip().removeprefix("error: ")
        raise UserError(f"{MAIN} is not at {name}'s commit yet; mend this, then run the same command again: {said}")
    print(f"new: done, {commit[:7]}")
    if "upstream" not in _remotes():
        print("new: `git remote add upstream <url of the scaffold>` lets `make upgrade` get its later versions")
    print("new: next, `git remote add origin <url of your repository>` and `git push -u origin main`")
    if not keep_sample:
        print("new: then put your images into data/; docs/new-project.md goes on from there")


def _of_the_sample() -> tuple[list[str], list[str]]:
    """What DVC keeps here: what is the sample and what its run made, byte for byte, and what lies in its place and is
    not."""
    outputs = (
        {DATA: DVC_MD5} | {path: version.name for path, version in locked_versions().items()} if LOCK.exists() else {}
    )
    tracked = git.tracked()
    there = {path: name for path, name in outputs.items() if path not in tracked and os.path.lexists(path)}
    same = [path for path, name in there.items() if _name_of(Path(path)) == name]
    return same, [path for path in there if path not in same]


def _name_of(path: Path) -> str:
    """What DVC names a file or a folder by; nothing for one with a link in it."""
    if path.is_symlink() or any(below.is_symlink() for below in path.rglob("*")):
        return ""
    if path.is_file():
        return md5_of(path)
    return folder_name({file.relative_to(path).as_posix(): md5_of(file) for file in path.rglob("*") if file.is_file()})


def _commit(name: str, leave: Iterable[str], begun: dict[str, str]) -> str:
    """Make the project's first commit, in Git alone: no branch, file or index changes. `leave`: the paths that it has
    not; `begun`: files, by their paths, that it has with this text."""
    readme = README.read_text(encoding="utf-8")
    (documentation,) = re.findall(r"^## Documentation\n.*?(?=^## )", readme, re.M | re.S)
    own = _README.format(name=name, documentation=documentation, scaffold=SCAFFOLD, front_page=FRONT_PAGE)
    pyproject = (
        Path(PYPROJECT).read_text(encoding="utf-8").replace(f'\nname = "{SCAFFOLD}"\n', f'\nname = "{name}"\n', 1)
    )
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"GIT_INDEX_FILE": f"{place}/index"}

        def run(*arguments: str, text: str = "") -> str:
            done = subprocess.run(
                ["git", *arguments],
                env=environment,
                input=text,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
            )
            if done.returncode:
                raise UserError(f"git {arguments[0]}: {done.stderr.strip()}\nNothing was changed.")
            return done.stdout.strip()

        run("read-tree", "HEAD")
        run("rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", "README.zh-CN.md", *leave)
        written = {str(README): own, str(FRONT_PAGE): front_page(readme), PYPROJECT: pyproject} | begun
        for path, text in written.items():
            run(
                "update-index",
                "--add",
                "--cacheinfo",
                f"100644,{run('hash-object', '-w', '--stdin', text=text)},{path}",
            )
        message = f"Begin {name} from {SCAFFOLD}"
        return run("commit-tree", run("write-tree"), "-p", "HEAD", "-m", message)


def _remotes() -> dict[str, str]:
    """The addresses of this clone's remotes, by their names."""
    return {name: git.git("remote", "get-url", name).strip() for name in git.git("remote").split()}


if __name__ == "__main__":
    run_main(main)
