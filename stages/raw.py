"""Raw layouts: what lies under data/, as images with their class and, where the layout says it, their split.

Two layouts are known, and found by looking:
- class folders: data/<class>/**/<image>
- split folders above them: data/train/<class>/**, optionally data/val/<class>/** and data/test/<class>/**
"""

import os
from dataclasses import dataclass
from pathlib import Path

from stages.errors import UserError

SPLITS = ("train", "val", "test")
# Files that operating systems leave in folders. They are counted, not read.
_CLUTTER = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class RawImage:
    """One file that should be an image. `path` is relative to data/, with forward slashes."""

    path: str
    label: str
    split: str | None


@dataclass(frozen=True)
class RawData:
    """All images, sorted by path; the class names, sorted; the layout in words; files ignored as clutter."""

    images: list[RawImage]
    classes: list[str]
    layout: str
    official_splits: tuple[str, ...]
    ignored: list[str]


def scan(root: Path) -> RawData:
    """Find the images under `root`.

    Raises UserError where the folder is missing or empty, where a file lies outside the class folders, where there are
    fewer than two classes, and where the splits do not hold the same classes.
    """
    if not root.is_dir():
        raise UserError(f"{root}/: no such folder. `make data` gets the version that {root}.dvc names.")
    paths, ignored = _files(root)
    if not paths:
        raise UserError(
            f"{root}/: no images. Expected {root}/<class>/<image>, or {root}/train/<class>/<image> and so on."
        )
    folders = {path.split("/")[0] for path in paths if "/" in path}
    official = tuple(split for split in SPLITS if split in folders)
    if official:
        _check_split_folders(root, folders, official)
    depth = 2 if official else 1
    stray = [path for path in paths if path.count("/") < depth]
    if stray:
        expected = "/".join([str(root), *(["<split>"] if official else []), "<class>", "<image>"])
        raise UserError(
            f"{root}/: {len(stray)} files outside a class folder; expected {expected}. Move or remove:\n"
            + _lines(stray)
        )

    images = []
    for path in paths:
        folder, *rest = path.split("/")
        images.append(RawImage(path, rest[0], folder) if official else RawImage(path, folder, None))
    classes = sorted({image.label for image in images})
    if len(classes) < 2:
        raise UserError(
            f"{root}/: one class only ({classes[0]}); a classifier needs images of at least two, "
            "each in its own folder."
        )
    for split in official:
        absent = set(classes) - {image.label for image in images if image.split == split}
        if absent:
            raise UserError(
                f"{root}/{split}/: no images of class {', '.join(sorted(absent))}; every split needs every class."
            )
    layout = f"class folders under {', '.join(official)}" if official else "class folders"
    return RawData(images, classes, layout, official, ignored)


def _files(root: Path) -> tuple[list[str], list[str]]:
    """Paths of all files under `root`, relative to it and sorted: those to read, and the ignored clutter."""
    found: list[str] = []
    ignored: list[str] = []

    def refuse(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(root, onerror=refuse):
        for name in names:
            path = Path(folder, name).relative_to(root).as_posix()
            (ignored if name.startswith(".") or name.lower() in _CLUTTER else found).append(path)
    return sorted(found), sorted(ignored)


def _check_split_folders(root: Path, folders: set[str], official: tuple[str, ...]) -> None:
    others = sorted(folders - set(SPLITS))
    if others:
        raise UserError(
            f"{root}/: both split folders ({', '.join(official)}) and other folders ({', '.join(others)}). "
            f"Expected either classes or train, val, test directly under {root}/, not a mixture."
        )
    if "train" not in official:
        raise UserError(
            f"{root}/: split folders {', '.join(official)} without train; "
            f"images to learn from go into {root}/train/<class>/."
        )


def _lines(paths: list[str]) -> str:
    return "\n".join(f"  {path}" for path in paths)
