"""What `python -m stages.look` found of the images, in .dvc/tmp/look/: their features, and facts of the pictures.

features.npy                      float32, N×D: the images of train, val and test, each split in the order of its arrays
images.csv                        a row for each: where it belongs, and what its picture is like
about.json                        of which network and of which images, and the digests of the other files
unlabelled-{features.npy,images.csv}  the same of a folder of pictures without labels, where one was named
"""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from review.revision import MANIFEST
from stages.common import tables
from stages.common.errors import UserError
from stages.common.files import read_json
from stages.common.names import is_printable, shortened, why_refused

FOLDER = Path(".dvc/tmp/look")
_SPLITS = ("train", "val", "test")
_REMEDY = "`make look` makes it."
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_CAMERA = 100


class Image(NamedTuple):
    """An image, and what its picture is like, as it came: `split` and `label` are '' where it has no label. `path`: of
    images with a label, below data/; `sha256`: of the pixels; `width`, `height`: pixels.

    brightness: the mean of its grey levels, 0 to 255
    contrast:   their standard deviation
    sharpness:  variance of the Laplacian of the grey picture, shrunk to a common side; a blurred picture has little
    plain:      the share of the pixels that have the most frequent grey level, 0 to 1
    taken:      the day of EXIF's DateTimeOriginal, YYYY-MM-DD; '' where it says none
    camera:     EXIF's Make and Model; '' where it says none
    """

    split: str
    path: str
    label: str
    sha256: str
    group: str
    width: int
    height: int
    brightness: float
    contrast: float
    sharpness: float
    plain: float
    taken: str
    camera: str


@dataclass(frozen=True)
class Features:
    """Images and, row for row, what the network makes of them, float32 N×D, mapped. `about`: the content of
    about.json."""

    images: list[Image]
    vectors: np.ndarray
    about: dict[str, Any]

    @property
    def features_of(self) -> str:
        """The network, in words."""
        return str(self.about["features_of"])

    @property
    def own_model(self) -> bool:
        """Whether the network has learned from these labels."""
        return bool(self.about["own_model"])


def read(folder: Path = FOLDER, manifest: Path = Path(MANIFEST)) -> Features:
    """Of the images in prepared/. UserError where there are none, not whole, or not of this manifest."""
    about = _read_about(folder, manifest)
    return Features(*_read_part(folder, "", about, labelled=True), about)


def read_unlabelled(pictures: Path, folder: Path = FOLDER, manifest: Path = Path(MANIFEST)) -> Features:
    """Of the pictures in a folder. UserError where there are none of it, not whole, or not by the network that the
    images of this manifest went through last."""
    about = _read_about(folder, manifest)
    part = about.get("unlabelled")
    if not isinstance(part, dict) or part.get("folder") != str(pictures.resolve()):
        raise UserError(
            f"{pictures}: not looked at in the last `make look`. `python -m stages.look --unlabelled {pictures}` looks "
            "at it."
        )
    return Features(*_read_part(folder, "unlabelled-", part, labelled=False), about)


def _read_about(folder: Path, manifest: Path) -> dict[str, Any]:
    path = folder / "about.json"
    about = read_json(path, _REMEDY)
    for key, kind in (("features_of", str), ("own_model", bool), ("manifest_sha256", str)):
        if not isinstance(about.get(key), kind):
            raise UserError(f"{path}: {key}: expected {kind.__name__}, got {about.get(key)!r}. {_REMEDY}")
    try:
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise UserError(f"{manifest}: no such file. `make repro` makes it.") from None
    if digest != about["manifest_sha256"]:
        raise UserError(
            f"{path}: of other images than {manifest} names, which has SHA-256 {digest[:16]}…; expected "
            f"{about['manifest_sha256'][:16]}…. Run `make look` again."
        )
    return about


def _read_part(folder: Path, prefix: str, digests: dict[str, Any], *, labelled: bool) -> tuple[list[Image], np.ndarray]:
    """Images and features of the two files that begin with `prefix`."""
    paths = folder / f"{prefix}images.csv", folder / f"{prefix}features.npy"
    for path, key in zip(paths, ("images_sha256", "features_sha256"), strict=True):
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            raise UserError(f"{path}: no such file. {_REMEDY}") from None
        if digest != digests.get(key):
            raise UserError(
                f"{path}: not the file that about.json names: expected SHA-256 {str(digests.get(key))[:16]}…, got "
                f"{digest[:16]}…. Run `make look` again."
            )
    images = _read_images(paths[0], labelled=labelled)
    try:
        vectors: np.ndarray = np.load(paths[1], mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{paths[1]}: not an array ({error}). {_REMEDY}") from None
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(images) or not vectors.shape[1]:
        raise UserError(
            f"{paths[1]}: expected float32 features of the {len(images)} images of {paths[0].name}, got "
            f"{vectors.dtype} {vectors.shape}. {_REMEDY}"
        )
    if not np.isfinite(vectors).all():
        raise UserError(f"{paths[1]}: numbers that are not finite. {_REMEDY}")
    return images, vectors


def _read_images(path: Path, *, labelled: bool) -> list[Image]:
    images = []
    columns = ["class" if name == "label" else name for name in Image._fields]
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = tables.Rows(stream, columns, ())
            for row in rows:
                if row is None:
                    raise tables.TableError(f"line {rows.line} has other than {len(rows.columns)} values")
                try:
                    images.append(_image(row, labelled=labelled))
                except ValueError as error:
                    raise tables.TableError(f"line {rows.line}: {error}") from None
    except tables.TableError as error:
        raise UserError(f"{path}: not what `make look` wrote: {error}. {_REMEDY}") from None
    return images


def _image(row: dict[str, str], *, labelled: bool) -> Image:
    """An image from its row. Raises ValueError."""
    if row["split"] not in (_SPLITS if labelled else ("",)):
        raise ValueError(f"split: got {shortened(row['split'])!r}")
    if bool(row["class"]) != labelled:
        raise ValueError(f"class: got {shortened(row['class'])!r}")
    for name in ("path", "class", "group"):
        if reason := why_refused(row[name]):
            raise ValueError(f"{name}: it has {reason}")
    if not _DIGEST.fullmatch(row["sha256"]):
        raise ValueError(f"sha256: got {shortened(row['sha256'])!r}")
    if row["taken"] and not _DATE.fullmatch(row["taken"]):
        raise ValueError(f"taken: expected YYYY-MM-DD, got {shortened(row['taken'])!r}")
    if len(row["camera"]) > _MOST_CAMERA or not all(map(is_printable, row["camera"])):
        raise ValueError(f"camera: got {shortened(row['camera'])!r}")
    width, height = int(row["width"]), int(row["height"])
    brightness, contrast, sharpness, plain = (
        float(row[name]) for name in ("brightness", "contrast", "sharpness", "plain")
    )
    in_range = 0 <= brightness <= 255 and 0 <= contrast <= 128 and 0 <= sharpness < math.inf and 0 <= plain <= 1
    if not (in_range and width > 0 and height > 0):
        raise ValueError("numbers that no picture has")
    return Image(
        row["split"],
        row["path"],
        row["class"],
        row["sha256"],
        row["group"],
        width,
        height,
        brightness,
        contrast,
        sharpness,
        plain,
        row["taken"],
        row["camera"],
    )
