"""The hash of an output as DVC records it in dvc.lock, from the files themselves."""

import os
from pathlib import Path

from stages.common.versions import folder_name, md5_of


def hash_of(root: Path, path: str) -> str | None:
    """The MD5 of a file below `root`; of a folder, that of the list of its files with theirs, and `.dir`, as
    dvc_data.hashfile.tree makes it. None where there is neither, or a link, which may lead to somebody else's files."""
    place = root / path
    if place.is_symlink() or not place.resolve().is_relative_to(root.resolve()):
        return None
    if place.is_file():
        return md5_of(place)
    if not place.is_dir():
        return None
    files = {}
    for folder, _, names in os.walk(place):
        for name in names:
            file = Path(folder, name)
            if file.is_symlink() or not file.is_file():
                return None
            files[file.relative_to(place).as_posix()] = md5_of(file)
    return folder_name(files)
