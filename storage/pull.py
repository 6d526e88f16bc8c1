"""Bring what DVC tracks into the workspace, as `dvc pull` does, but checked first.

data.dvc, dvc.lock, the listings of folders and the objects themselves may all come from somebody else: a branch, or
whoever may write to the remote. So the digests are taken from the first two, read strictly; the objects are fetched
into the cache, by these digests alone; listings and contents are checked there; and only then is anything written.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stages.common.errors import UserError
from stages.common.names import why_not_within
from stages.common.versions import DATA, EXPORT_LOCK, LOCK, Version, data_version, locked_versions, pointed_version
from storage.config import keep_private, require_safe
from storage.listing import read_listing
from storage.objects import Objects

# Pretrained weights, each file with a .dvc of its own.
WEIGHTS = "weights"
# The only places that are written: no Python is imported from them, and no program looks for settings there, so that
# content of a remote never runs. A stage with an output elsewhere needs it here.
PLACES = (DATA, WEIGHTS, "prepared", "models", "predictions.csv")


class AbsentError(UserError):
    """Neither the cache nor the remote has these paths. `refusal` says why the remote could not be read, and is empty
    where it only lacks them."""

    def __init__(self, paths: list[str], refusal: str) -> None:
        super().__init__(
            f"{', '.join(paths)}: neither in DVC's cache nor in the remote"
            f"{f', which cannot be read ({refusal})' if refusal else ''}. Ask whoever made it to run `dvc push`, and "
            "check `dvc remote list` and your credentials."
        )
        self.paths = paths
        self.refusal = refusal


class _Wanted(NamedTuple):
    """A path, and the output that it is, or lies in."""

    path: str
    output: str
    version: Version


def pull(root: Path, paths: Sequence[str]) -> None:
    """Bring tracked paths, data/, weights and outputs in dvc.lock or files in these, from the cache or the remote.

    Each must be missing, or an empty folder. AbsentError where some are nowhere, after the others were brought. Any
    other UserError means that nothing was written.
    """
    require_safe(root)
    keep_private(root)
    wanted = [_find(root, path) for path in paths]
    for one in wanted:
        _require_free(root, one.path)
    with opened(root) as repo:
        objects = Objects(repo)
        folders = {one.version.name: one.output for one in wanted if one.version.is_folder}
        objects.bring(folders)
        listings = {
            name: read_listing(objects.path(name), folder) for name, folder in folders.items() if objects.has(name)
        }
        contents = {one.path: _files(one, listings) for one in wanted}
        needed = {
            digest: f"{path}/{name}" if name else path
            for path, files in contents.items()
            for name, digest in (files or {}).items()
        }
        objects.bring(needed)
        absent = []
        for path, files in contents.items():
            if files is None or not all(map(objects.has, files.values())):
                absent.append(path)
            else:
                _write(root / path, files, repo)
    if absent:
        raise AbsentError(absent, objects.refusal)


def _find(root: Path, path: str) -> _Wanted:
    """Which output this is, in the version of data.dvc, dvc.lock or export/dvc.lock. UserError where none of them names
    it."""
    top = path.split("/")[0]
    if reason := why_not_within(path):
        raise UserError(f"{path!r}: not taken from DVC's storage: {reason}.")
    if top not in PLACES:
        raise UserError(
            f"{path!r}: not taken from DVC's storage, which may write {', '.join(PLACES)} alone. If a stage of this "
            "project has an output there, add it to PLACES in storage/pull.py."
        )
    if top == DATA:
        return _Wanted(path, DATA, data_version(root))
    if top == WEIGHTS:
        missing = "`python -m scripts.get_weights` gets weights, and writes it."
        return _Wanted(path, path, pointed_version(root, path, missing))
    locked = locked_versions(root)
    if (root / EXPORT_LOCK).exists():
        locked = locked_versions(root, EXPORT_LOCK) | locked
    for output, version in locked.items():
        if path == output or (path.startswith(f"{output}/") and version.is_folder):
            return _Wanted(path, output, version)
    raise UserError(
        f"{path}: {LOCK} names no such output, nor does {EXPORT_LOCK}. `make repro` and `make export` make them."
    )


def _require_free(root: Path, path: str) -> None:
    """UserError where something is there already, or a link on the way, which would lead elsewhere."""
    place = root / path
    for part in [*reversed(place.parents[: path.count("/")]), place]:
        if part.is_symlink():
            raise UserError(
                f"{part}: a symbolic link; what is taken from DVC's storage is written into this project alone. "
                "Remove the link, then run again."
            )
        if part != place and part.exists() and not part.is_dir():
            raise UserError(f"{part}: expected a folder, got a file. Move it away, then run again.")
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise UserError(f"{place}: is there already, and is left as it is. Move it away, then run again.")


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """The project, locked as DVC locks it. UserError where DVC cannot open it, or another process has it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo, repo.lock:
            yield repo
    except DvcException as error:
        raise UserError(f"DVC: {error}") from None


def _files(one: _Wanted, listings: dict[str, dict[str, str]]) -> dict[str, str] | None:
    """Digests by path within `one.path`, which is empty where that is itself a file; None where the listing is
    missing. UserError where the listing has no such path."""
    if not one.version.is_folder:
        return {"": one.version.md5}
    files = listings.get(one.version.name)
    if files is None or one.path == one.output:
        return files
    within = one.path.removeprefix(f"{one.output}/")
    found = {path[len(within) :].lstrip("/"): md5 for path, md5 in files.items() if f"{path}/".startswith(f"{within}/")}
    if not found:
        raise UserError(f"{one.path}: not in the version of {one.output} that was committed.")
    return found


def _write(place: Path, files: dict[str, str], repo: Any) -> None:
    """Link or copy from the cache, as its settings say. A part of it, where that fails, does not stay."""
    from dvc_data.hashfile.checkout import LinkError, checkout
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    if "" in files:
        content = cache.get(files[""])
    else:
        content = Tree.from_list([{"relpath": path, "md5": md5} for path, md5 in files.items()], hash_name="md5")
        content.digest()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        checkout(str(place.absolute()), repo.fs, content, cache, state=repo.state, quiet=True)
    except BaseException as error:
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        if isinstance(error, LinkError) and isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
