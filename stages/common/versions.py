"""Which versions data.dvc and dvc.lock name: the MD5 of what DVC tracks.

Both may come from anybody's branch, so they are read strictly: what DVC itself writes is taken, and nothing else.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.documents import DocumentError, parse_yaml
from stages.common.errors import UserError
from stages.common.names import why_not_within

DATA = "data"
POINTER = Path("data.dvc")
LOCK = Path("dvc.lock")
EXPORT_LOCK = Path("export/dvc.lock")
# Keys of an output that say which content it is; `isexec` alone changes what is written, and is not followed.
_VERSION_KEYS = {"path", "md5", "hash", "size", "nfiles", "isexec"}
_NOTES = {"desc", "type", "labels", "meta"}
# What `dvc import` and `dvc import-url` add. What is imported is taken from cache and remote like all else, by its
# digest; frozen, so that nothing asks the source but `dvc update`.
_IMPORT_KEYS = {"md5", "frozen", "deps"}


@dataclass(frozen=True)
class Version:
    """Of an output: the MD5 of a file, or of the listing of a folder's files."""

    md5: str
    is_folder: bool

    @property
    def name(self) -> str:
        """The name of the object in DVC's cache and remotes."""
        return f"{self.md5}.dir" if self.is_folder else self.md5


def md5_of(file: Path) -> str:
    """The MD5 of a file's content, as DVC names it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def folder_name(files: Mapping[str, str]) -> str:
    """What DVC names a folder by, from the MD5 of each of its files by the path in it: the MD5 of their list, as
    dvc_data.hashfile.tree makes it, and `.dir`."""
    listing = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def data_version(root: Path = Path()) -> Version:
    """What data.dvc names. UserError where it is missing, or not what `dvc add data` or an import writes."""
    return pointed_version(root, DATA, _without_pointer(root))


def _without_pointer(root: Path) -> str:
    """What to do without data.dvc, by what lies in data/."""
    inside = sorted(str(path.relative_to(root)) for path in (root / DATA).rglob("*.dvc") if path.is_file())
    if inside:
        return (
            f"{DATA}/ holds {len(inside)} of its own ({', '.join(inside[:3])}{', …' if inside[3:] else ''}); expected "
            "one for the whole folder. Get all images first (`dvc pull`), then `dvc remove` each of these, which "
            f"leaves the images where they are, and `dvc add {DATA}`."
        )
    if (root / DATA).is_dir() and any((root / DATA).iterdir()):
        return (
            f"{DATA}/ is not DVC's yet: `dvc add {DATA}` makes it so. If it is kept in Git, `git rm -r --quiet "
            f"--cached {DATA}` first, which leaves the files where they are (docs/own-data.md)."
        )
    return (
        f"There are no images yet: put yours into {DATA}/, run `make propose`, which looks at them and proposes "
        f"params, and `dvc add {DATA}` (docs/own-data.md)."
    )


def import_source(root: Path = Path()) -> str:
    """Where data.dvc was imported from; empty where it was not. UserError as from `data_version`."""
    data_version(root)
    (dep,) = _read(root / POINTER, "", "").get("deps", [{}])
    repo = dep.get("repo")
    return str(dep.get("path", "")) + (f" of {repo.get('url')}" if isinstance(repo, dict) else "")


def pointed_version(root: Path, path: str, if_missing: str) -> Version:
    """What PATH.dvc names. UserError where it is missing, with `if_missing`, or not what `dvc add PATH` writes."""
    pointer, name = Path(f"{path}.dvc"), Path(path).name
    remedy = f"`git checkout {pointer}` restores the committed one; `dvc add {path}` writes that of what is here."
    content = _read(root / pointer, if_missing, remedy)
    outs = content.get("outs")
    if not (isinstance(outs, list) and len(outs) == 1 and isinstance(outs[0], dict)):
        raise UserError(f"{pointer}: not a file that `dvc add {path}` wrote: expected one output. {remedy}")
    if "files" in outs[0] or "cloud" in outs[0]:
        raise UserError(
            f"{pointer}: of a remote with cloud versioning (version_aware or worktree), which this project does not "
            "follow: it names the versions of each file in one cloud. `dvc pull` gets the images. To keep them here, "
            f"add an ordinary remote, `dvc remote default` it, and `dvc add {path}`, then `dvc push`."
        )
    allowed = {"outs", *_NOTES, *(_IMPORT_KEYS if _is_import(content) else ())}
    refused = sorted(map(str, [*content.keys() - allowed, *outs[0].keys() - _VERSION_KEYS - _NOTES]))
    if _is_import(content) and not refused and "md5" not in outs[0]:
        raise UserError(
            f"{pointer}: an import without its content (--no-download). `dvc update {pointer}` downloads it, and "
            "writes which version it is."
        )
    if refused:
        raise UserError(
            f"{pointer}: not a file that `dvc add {path}` wrote: it has {', '.join(map(repr, refused))}, and would "
            f"have DVC take it from elsewhere, or put it elsewhere. {remedy}"
        )
    if outs[0].get("path") != name:
        raise UserError(f"{pointer}: path: expected {name}, got {outs[0].get('path')!r}. {remedy}")
    return _version(pointer, outs[0], remedy)


def _is_import(content: dict[Any, Any]) -> bool:
    """Whether it has the form of a frozen import from one place."""
    deps = content.get("deps")
    return content.get("frozen") is True and isinstance(deps, list) and [type(dep) for dep in deps] == [dict]


def locked_versions(root: Path = Path(), lock: Path = LOCK) -> dict[str, Version]:
    """What a lock names, by the path of the output, of all outputs. UserError where it is missing, or not what
    `dvc repro` writes."""
    writer = "`make export`" if lock == EXPORT_LOCK else "`dvc repro`"
    remedy = f"`git checkout {lock}` restores the committed one; {writer} writes it."
    content = _read(root / lock, f"{writer} writes it.", remedy)
    found: dict[str, Version] = {}
    stages = content.get("stages", {})
    for stage in stages.values() if isinstance(stages, dict) else [None]:
        outs = stage.get("outs", []) if isinstance(stage, dict) else None
        if not (isinstance(outs, list) and all(isinstance(out, dict) for out in outs)):
            raise UserError(f"{lock}: not a file that `dvc repro` wrote: stages: expected outputs. {remedy}")
        for out in outs:
            path = out.get("path")
            reason = why_not_within(path) if isinstance(path, str) else "a path is a text"
            if reason:
                raise UserError(f"{lock}: outs: {path!r}: {reason}. {remedy}")
            if path in found:
                raise UserError(f"{lock}: outs: {path!r} is named twice. {remedy}")
            if refused := sorted(map(repr, out.keys() - _VERSION_KEYS)):
                raise UserError(f"{lock}: outs: {path}: {', '.join(refused)}: not what `dvc repro` wrote. {remedy}")
            found[path] = _version(lock, out, remedy)
    return found


def _version(file: Path, out: dict[Any, Any], remedy: str) -> Version:
    if out.get("hash", "md5") != "md5" or "hash" not in out:
        raise UserError(
            f"{file}: {out.get('path')}: hash: expected md5, got {out.get('hash')!r}. {remedy} "
            "What DVC 2 wrote becomes DVC 3's by `dvc cache migrate --dvc-files`."
        )
    digest = out.get("md5")
    matched = re.fullmatch(r"([0-9a-f]{32})(\.dir)?", digest) if isinstance(digest, str) else None
    if not matched:
        raise UserError(f"{file}: {out.get('path')}: md5: expected 32 hexadecimal digits, got {digest!r}. {remedy}")
    return Version(matched[1], is_folder=matched[2] is not None)


def _read(path: Path, if_missing: str, remedy: str) -> dict[Any, Any]:
    """A YAML mapping."""
    try:
        if path.is_symlink():
            raise UserError(f"{path.name}: a symbolic link; expected a file. {remedy}")
        content = parse_yaml(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path.name}: no such file. {if_missing}") from None
    except IsADirectoryError:
        raise UserError(f"{path.name}: expected a file, got a folder. Rename it. {remedy}") from None
    except DocumentError as error:
        raise UserError(f"{path.name}: not YAML ({error}). {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name}: expected `key: value` lines, got {type(content).__name__}. {remedy}")
    return content
