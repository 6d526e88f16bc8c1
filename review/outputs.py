"""The hash of an output as DVC records it in dvc.lock, from the files themselves."""

import hashlib
import json
import os
from pathlib import Path


def hash_of(root: Path, path: str) -> str | None:
    """The MD5 of a file below `root`; of a folder, that of the list of its files with theirs, and `.dir`, as
    dvc_data.hashfile.tree makes it. None where there is neither, or a link, which may lead to somebody else's files."""
    place = root / path
    if place.is_symlink() or not place.resolve().is_relative_to(root.resolve()):
        return None
    if place.is_file():
        return _md5(place)
    if not place.is_dir():
        return None
    listing = []
    for folder, _, names in os.walk(place):
        for name in names:
            file = Path(folder, name)
            if file.is_symlink() or not file.is_file():
                return None
            listing.append({"md5": _md5(file), "relpath": file.relative_to(place).as_posix()})
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, hashlib.md5).hexdigest()
