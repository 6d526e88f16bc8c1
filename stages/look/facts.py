"""What one picture is like, as it came: its size, its light, how sharp it is, and what EXIF says of it."""

import datetime
import hashlib
import io
import re
import unicodedata
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.common.names import is_printable
from stages.prepare.picture import FORMATS

# Pictures are shrunk until their shorter side has so many pixels, so that sharpness means the same for all: a photo of
# twelve megapixels is smooth from pixel to pixel, however sharp it looks.
_COMMON_SIDE = 256
# EXIF 2.3, 4.6.4 and 4.6.5.
_MAKE, _MODEL, _EXIF_IFD, _DATE_TIME_ORIGINAL = 0x010F, 0x0110, 0x8769, 0x9003
# A segment of a JPEG holds 64 KiB; other formats have no such limit.
_MOST_EXIF_BYTES = 1 << 20
_MOST_CAMERA = 60
# Of a file with EXIF: JPEG and AVIF, PNG, WebP, TIFF.
_MARKS = (b"Exif", b"eXIf", b"EXIF", b"II*\x00", b"MM\x00*")


class Facts(NamedTuple):
    """As in images.csv (review/data/features.py says what each is)."""

    width: int
    height: int
    brightness: float
    contrast: float
    sharpness: float
    plain: float
    taken: str = ""
    camera: str = ""


def form() -> str:
    """What decides the facts of a picture: this code, and Pillow's."""
    return f"{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()} {version('pillow')}"


def measure(rgb: np.ndarray, data: bytes = b"") -> Facts:
    """Of a picture's pixels, uint8 H×W×3, and its file. All sums are of integers, so exact."""
    grey = Image.fromarray(rgb).convert("L")
    counts = np.array(grey.histogram(), np.int64)
    brightness, contrast = _mean_and_deviation(counts, np.arange(256))
    taken, camera = _exif(data)
    return Facts(
        grey.width,
        grey.height,
        round(brightness, 2),
        round(contrast, 2),
        round(_sharpness(grey), 2),
        round(int(counts.max()) / (grey.width * grey.height), 4),
        taken,
        camera,
    )


def _sharpness(grey: Image.Image) -> float:
    """The variance of the Laplacian, a measure of focus (Pech-Pacheco et al., ICPR 2000), of the picture shrunk to
    _COMMON_SIDE; smaller ones are taken as they are."""
    short = min(grey.size)
    if short > _COMMON_SIDE:
        size = [max(1, round(side * _COMMON_SIDE / short)) for side in grey.size]
        grey = grey.resize((size[0], size[1]), Image.Resampling.BOX)
    pixels = np.asarray(grey).astype(np.int32)
    if min(pixels.shape) < 3:
        return 0.0
    inside = pixels[1:-1, 1:-1]
    laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * inside
    # From -1020 to 1020.
    counts = np.bincount((laplacian + 1020).ravel(), minlength=2041)
    return _mean_and_deviation(counts, np.arange(-1020, 1021))[1] ** 2


def _mean_and_deviation(counts: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Of integers, each with how often it is there."""
    number, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
    return total / number, (number * squares - total**2) ** 0.5 / number


def _exif(data: bytes) -> tuple[str, str]:
    """The day on which the picture was taken, and the camera; each '' where EXIF does not say it, or is damaged. The
    picture itself is not decoded."""
    if not any(mark in data for mark in _MARKS):
        return "", ""
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                exif = Image.Exif()
                if picture.format == "TIFF":
                    exif = picture.getexif()
                elif len(content := picture.info.get("exif", b"")) <= _MOST_EXIF_BYTES:
                    exif.load(content)
                return _day(exif.get_ifd(_EXIF_IFD).get(_DATE_TIME_ORIGINAL)), _camera(exif)
        except Exception:  # Pillow's decoders raise nearly every kind of exception for damaged bytes
            return "", ""


def _day(value: Any) -> str:
    """`2024:05:01 12:00:00` → `2024-05-01`."""
    if not isinstance(value, str) or not (matched := re.match(r"(\d{4}):(\d\d):(\d\d)\b", value, re.ASCII)):
        return ""
    try:
        return datetime.date(*map(int, matched.groups())).isoformat()
    except ValueError:
        return ""  # 0000:00:00 is a camera's way of saying that its clock was not set


def _camera(exif: Image.Exif) -> str:
    make, model = (_plain_text(exif.get(tag)) for tag in (_MAKE, _MODEL))
    # Many models begin with the maker's name.
    name = model if make and model.casefold().startswith(make.casefold()) else f"{make} {model}"
    return name.strip()[:_MOST_CAMERA].strip()


def _plain_text(value: Any) -> str:
    """Somebody else's text on one line, without what is not seen."""
    if not isinstance(value, str):
        return ""
    seen = "".join(character if is_printable(character) else " " for character in unicodedata.normalize("NFC", value))
    return " ".join("".join(c for c in seen if unicodedata.category(c) != "Cf").split())
