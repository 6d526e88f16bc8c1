"""One picture: its bytes → RGB pixels as people see them → the square that the model sees.

What does not fit into 8-bit RGB has a stated treatment:
- EXIF orientation is applied; transparent parts are laid over white; palettes are resolved; grey becomes R = G = B.
- CMYK is converted without a colour profile; embedded profiles are not applied to RGB either.
- 16-bit greys keep their upper 8 bits, as Pillow does with 16-bit colour.
- Of an animation, or of a file with several pages, the first frame counts.
- 32-bit integers beyond 16 bits and floating point are refused: their range is not known.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

# Only formats that hold photographs and drawings; Pillow would also open PDF or video-like containers.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_MODES_8_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_MODES_16_BIT = ("I;16", "I;16L", "I;16B", "I")
# The pixels at which Pillow warns of a decompression bomb; a picture of more is refused.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
# Each scan of a progressive JPEG takes as long as a picture, and one without content takes a few bytes. libjpeg's own
# script has 10 scans, and 18 for CMYK.
MAX_SCANS = 32
_START_OF_SCAN = b"\xff\xda"
# A marker of JPEG (ITU-T T.81, B.1.1.2); 0xff 0x00 is a byte of the picture.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_JPEG_WITH_LENGTH = frozenset(
    (*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)
)
_JPEG_END = 0xD9
_SEQUENTIAL = (0xC0, 0xC1)
_GREY_MODES = ("1", "L", "LA", "La", *_MODES_16_BIT)
# EXIF 2.3, 4.6.4: tag 0x112, and those of its values that swap width and height.
_ORIENTATION = 0x112
_QUARTER_TURNS = (5, 6, 7, 8)


class Decoded(NamedTuple):
    """Pixels, uint8 H×W×3, and what was done to them that a person should know."""

    rgb: np.ndarray
    note: str


class Header(NamedTuple):
    """Width and height in pixels, as people see the picture, and whether its pixels are stored as grey."""

    width: int
    height: int
    is_grey: bool


class NotAPicture(Exception):  # noqa: N818  # it says what is wrong, as StopIteration does
    """Bytes that are not a whole picture of a known kind; the text says why."""


class Canvas:
    """Memory for one picture after the other: fresh memory for a large one costs half as much as decoding it."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def of(self, size: int) -> np.ndarray:
        """An array of at least `size` bytes, which the next call may give out again."""
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory


def decode(data: bytes, canvas: Canvas | None = None) -> Decoded:
    """Decode one picture; with a canvas, its pixels may lie there. Raises NotAPicture.

    A plain JPEG goes to libjpeg-turbo directly, five times faster for small pictures than by way of Pillow, which uses
    the same library and settings, so the pixels are the same; whatever is not plain, or not whole, goes to Pillow.
    """
    is_jpeg = data[:2] == b"\xff\xd8"
    if is_jpeg and (scans := count_scans(data)) > MAX_SCANS:
        raise NotAPicture(f"{scans} scans; at most {MAX_SCANS} are read")
    if is_jpeg and b"Exif\x00" not in data[:65536]:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours in ("YCbCr", "Gray") and height * width <= MAX_PIXELS:
                memory = canvas.of(height * width * 3) if canvas else None
                return Decoded(simplejpeg.decode_jpeg(data, "RGB", buffer=memory), "")
        except ValueError:
            pass  # Pillow decides, and says what is wrong
    if not data:
        raise NotAPicture("empty file")
    with _pillow():
        return _decode_by_pillow(data)


@contextmanager
def _pillow() -> Iterator[None]:
    """Whatever Pillow raises in here becomes NotAPicture, in words; its warnings are not shown."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UnidentifiedImageError:
        raise NotAPicture(f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except NotAPicture:
        raise
    except Image.DecompressionBombError:
        raise NotAPicture(f"more than {2 * MAX_PIXELS:,} pixels; at most {MAX_PIXELS:,} are read") from None
    except MemoryError:
        raise NotAPicture("too large for the memory of this machine") from None
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception for damaged bytes
        raise NotAPicture(f"damaged: {error or type(error).__name__}") from None


def count_scans(data: bytes) -> int:
    """The scans of a JPEG file, or more: those that libjpeg would come to, by the same rule from marker to marker.

    Where the first one has all components of a sequential frame, libjpeg refuses a second one: most files end here.
    """
    scans = position = components = 0
    while match := _MARKER.search(data, position):
        position = match.end()
        marker = data[position - 1]
        if marker == _JPEG_END:
            break
        if marker in _SEQUENTIAL:
            components = int.from_bytes(data[position + 7 : position + 8], "big")
        if marker == _START_OF_SCAN[1]:
            scans += 1
            if scans == 1 and components and data[position + 2 : position + 3] == bytes([components]):
                return 1
            if scans == 1 and (at_most := data.count(_START_OF_SCAN)) <= MAX_SCANS:
                return at_most  # ten times faster than to go on
        if marker in _JPEG_WITH_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return scans


def _decode_by_pillow(data: bytes) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise NotAPicture(f"{picture.width}×{picture.height} pixels; at most {MAX_PIXELS:,} are read")
        # Not by n_frames, for which Pillow walks through all frames, of which a file may have millions.
        note = "animated: first frame" if getattr(picture, "is_animated", False) and picture.format != "MPO" else ""
        if picture.mode not in _MODES_8_BIT + _MODES_16_BIT:
            raise NotAPicture(f"pixels of mode {picture.mode}, whose range is not known")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    if upright.mode in _MODES_16_BIT:
        values = np.asarray(upright)
        if values.min() < 0 or values.max() > 65535:
            raise NotAPicture(f"pixels from {values.min()} to {values.max()}; at most 16 bits are read")
        grey = (values >> 8).astype(np.uint8)
        return Decoded(np.repeat(grey[..., None], 3, axis=2), "; ".join(filter(None, [note, "16 bits: upper 8"])))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return Decoded(np.asarray(upright.convert("RGB")), note)


def read_header(stream: IO[bytes]) -> Header:
    """What a picture says of itself, without its pixels, which may be damaged. Raises NotAPicture."""
    with _pillow(), Image.open(stream, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise NotAPicture(f"{width}×{height} pixels; at most {MAX_PIXELS:,} are read")
        if picture.getexif().get(_ORIENTATION, 1) in _QUARTER_TURNS:
            width, height = height, width
        return Header(width, height, picture.mode in _GREY_MODES)


def pixel_sha256(rgb: np.ndarray) -> bytes:
    """The identity of a picture: SHA-256 of its width, height and pixels, whatever its file's name and format."""
    digest = hashlib.sha256(b"%d %d " % (rgb.shape[1], rgb.shape[0]))
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.digest()


def to_square(rgb: np.ndarray, side: int, how: str) -> np.ndarray:
    """Resize to side×side×3 by bicubic interpolation with antialiasing.

    `how` is crop (the largest centred square), pad (black borders) or squash. PyTorch's kernel gives the same bytes on
    every x86-64 CPU with AVX2, in a seventh of Pillow's time; elsewhere values differ by one level at most.
    """
    height, width = rgb.shape[:2]
    if (height, width) == (side, side):
        return rgb
    if how == "crop":
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        return _resize(rgb[top : top + short, left : left + short], side, side)
    if how == "squash":
        return _resize(rgb, side, side)
    scale = side / max(height, width)
    inner = _resize(rgb, max(1, round(height * scale)), max(1, round(width * scale)))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - inner.shape[0]) // 2, (side - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def _resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    if rgb.shape[:2] == (height, width):
        return rgb
    import torch

    # PyTorch warns of arrays that it could not write to, such as Pillow's.
    pixels = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy())[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        pixels, (height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).contiguous().numpy()
