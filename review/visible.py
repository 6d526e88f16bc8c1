"""What a stage that is run again can see: the deps that dvc.yaml lists for it, the modules in stages/, and settings.

So a model cannot be trained on the test split in secret, nor a figure be copied from where the claim has it: what no
dep names is not there. It lies outside of the checkout meanwhile, where code in the sandbox does not reach.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from review.cleanroom import Cleanroom
from review.lock import Lock, weights_of
from review.revision import CLAIM, EXPORT, require_relative
from stages.common import shards
from stages.common.errors import UserError

# Settings of the project, of its stages and of Git and DVC, should a stage ask them.
_ALWAYS = {
    ".dvc",
    ".dvcignore",
    ".git",
    ".gitattributes",
    ".gitignore",
    "dvc.yaml",
    "dvc.lock",
    "pyproject.toml",
    f"{CLAIM}/dvc.yaml",
    f"{CLAIM}/dvc.lock",
    f"{EXPORT}/dvc.yaml",
    f"{EXPORT}/dvc.lock",
}
PREPARED = "prepared"
# Of the code, all modules, as the schemas of params.yaml ask for those that params name.
_CODE = "stages"


class Visible:
    """The files of a clean checkout, of which each stage sees its own. What the claim's run wrote is removed first:
    these stages write it again."""

    def __init__(self, room: Cleanroom, lock: Lock, stages: Collection[str]) -> None:
        self._place = room.path
        self._hidden = room.path.with_name("hidden")
        self._lock = lock
        for stage in stages:
            for out in lock["stages"][stage].get("outs", []):
                _remove(self._within(out["path"]))

    @contextlib.contextmanager
    def to(self, stage: str) -> Iterator[None]:
        """Hide what `stage` does not list, and bring it back."""
        locked = self._lock["stages"][stage]
        seen = {entry["path"] for kind in ("deps", "outs") for entry in locked.get(kind, [])}
        seen |= set(locked.get("params", {}))
        seen |= set(weights_of({"stages": {stage: locked}}))
        # Of images in shards, the dep says where each lies.
        seen |= {path for path in self._shards() if shards.images_of(path) in seen}
        hidden = list(self._hide("", seen | _ALWAYS))
        yield
        for path in hidden:
            self._bring_back(path)

    def _shards(self) -> Iterator[str]:
        for path in (self._place / PREPARED / shards.FOLDER).glob("*"):
            yield f"{PREPARED}/{shards.FOLDER}/{path.name}"

    def _hide(self, folder: str, seen: set[str]) -> Iterator[str]:
        with os.scandir(self._place / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{folder}/{entry.name}" if folder else entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                in_code = f"{path}/".startswith(f"{_CODE}/")
                if path in seen and not (is_folder and in_code):
                    continue
                if is_folder and (in_code or any(one.startswith(f"{path}/") for one in seen)):
                    yield from self._hide(path, seen)
                    continue
                if (in_code and path.endswith(".py")) or (not folder and path.endswith(".dvc")):
                    continue
                away = self._hidden / path
                away.parent.mkdir(parents=True, exist_ok=True)
                (self._place / path).rename(away)
                yield path

    def _bring_back(self, path: str) -> None:
        back = self._within(path)
        back.parent.mkdir(parents=True, exist_ok=True)
        _remove(back)
        (self._hidden / path).rename(back)

    def _within(self, path: str) -> Path:
        """Where a path of the project is. UserError where that is not in the checkout: a link that the commit has, or
        that a stage made, in place of a folder would have somebody else's files removed."""
        require_relative(path, "dvc.lock")
        place = self._place / path
        for parent in place.parents:
            if parent == self._place:
                break
            if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
                name = parent.relative_to(self._place)
                raise UserError(f"{name}: expected a folder, got a link or a file. Read the code that makes it.")
        return place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
