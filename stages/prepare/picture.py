"""One picture: its bytes → RGB pixels as people see them → the square that the model sees.

What does not fit into 8-bit RGB has a stated treatment:
- EXIF orientation is applied; transparent parts are laid over white; palettes are resolved; grey becomes R = G = B.
- CMYK is converted without a colour profile; embedded profiles are not applied to RGB either.
- 16-bit greys keep their upper 8 bits, as Pillow does with 16-bit colour; a note says where that leaves few levels.
- AVIF of 10 or 12 bits becomes 8 bits.
- Of an animation, or of a file with several pages, the first frame counts.
- 32-bit integers beyond 16 bits and floating point are refused: their range is not known.

A picture whose pixels are damaged is refused, as libjpeg's warnings (jpeg.py) and PNG's checksums (png.py) tell; BMP,
GIF, PPM, TIFF, WebP and AVIF have neither. Where only what lies beside the pixels is damaged, a note says so.
"""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from stages.prepare import jpeg, png
from stages.prepare.resize import Kernel, by_numpy

# Only formats that hold photographs and drawings; Pillow would also open PDF or video-like containers.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF")
# Pillow logs some of what it raises, too.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_MODES_8_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_MODES_16_BIT = ("I;16", "I;16L", "I;16B", "I")
# The pixels at which Pillow warns of a decompression bomb; a picture of more is refused.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
_GREY_MODES = ("1", "L", "LA", "La", *_MODES_16_BIT)
# EXIF 2.3, 4.6.4: tag 0x112, and those of its values that swap width and height.
_ORIENTATION = 0x112
_QUARTER_TURNS = (5, 6, 7, 8)
_EXIF = b"Exif\x00\x00"
_NO_ORIENTATION = "EXIF cannot be read: shown as stored"
# The whole range of 16 bits has 256 levels of upper 8 bits.
_FEW_LEVELS = 32
FEW_LEVELS = f"16 bits: upper 8, which leave {_FEW_LEVELS} levels of 256 or fewer"


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


def decode(data: bytes, canvas: Canvas | None = None, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode one picture of at most `max_pixels`; with a canvas, its pixels may lie there. Raises NotAPicture.

    A plain JPEG goes to libjpeg-turbo directly, five times faster for small pictures than by way of Pillow, which uses
    the same library and settings, so the pixels are the same; whatever is not plain, or not whole, goes to Pillow.
    """
    if not data:
        raise NotAPicture("empty file")
    if data[:2] != b"\xff\xd8":
        with _pillow(data):
            is_png = data.startswith(png.SIGNATURE)
            return _decode_png(data, max_pixels) if is_png else _decode_by_pillow(data, max_pixels)
    if (scans := jpeg.count_scans(data)) > jpeg.MAX_SCANS:
        raise NotAPicture(f"{scans} scans; at most {jpeg.MAX_SCANS} are read")
    decoded = _decode_plain_jpeg(data, canvas, max_pixels)
    if decoded is None:
        with _pillow(data):
            decoded = _decode_by_pillow(data, max_pixels)
        if damage := jpeg.damage(data):
            raise NotAPicture(f"damaged: {damage}")
    if scans == 1 or not (missing := jpeg.missing_scans(data)):
        return decoded
    if missing == "colours":
        raise NotAPicture("damaged: a scan is missing")
    return decoded._replace(note=_joined(decoded.note, "progressive, but not all of its scans: lacks detail"))


def _decode_plain_jpeg(data: bytes, canvas: Canvas | None, max_pixels: int) -> Decoded | None:
    """By simplejpeg; None where that cannot, or libjpeg warns."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or height * width > max_pixels:
            return None
        memory = canvas.of(height * width * 3) if canvas else None
        rgb = simplejpeg.decode_jpeg(data, "RGB", buffer=memory)
    except ValueError:
        return None
    if _EXIF not in data:
        return Decoded(rgb, "")
    with _pillow(data), Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        orientation, note = _orientation(picture)
    return Decoded(_turned(rgb, orientation), note)


def _decode_png(data: bytes, max_pixels: int) -> Decoded:
    checked = png.check(data)
    if checked.broken:
        raise NotAPicture(f"damaged: wrong checksum of {', '.join(sorted(set(checked.broken)))}")
    decoded = _decode_by_pillow(checked.data, max_pixels)
    if not checked.left_out:
        return decoded
    kinds_left_out = sorted(set(checked.left_out))
    note = _NO_ORIENTATION if "eXIf" in kinds_left_out else f"damaged beside its pixels: {', '.join(kinds_left_out)}"
    return decoded._replace(note=_joined(decoded.note, note))


@contextmanager
def _pillow(data: bytes) -> Iterator[None]:
    """Whatever Pillow raises in here of `data` becomes NotAPicture, in words; its warnings are not shown."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UnidentifiedImageError:
        from stages.prepare import kinds  # its imports take time, and most runs need none

        with warnings.catch_warnings(action="ignore"):
            reason = kinds.why_not_opened(data, FORMATS) or kinds.describe(data)
        raise NotAPicture(reason or f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except NotAPicture:
        raise
    except Image.DecompressionBombError:
        raise NotAPicture(f"more than {2 * MAX_PIXELS:,} pixels; at most {MAX_PIXELS:,} are read") from None
    except MemoryError:
        raise NotAPicture("too large for the memory of this machine") from None
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception for damaged bytes
        raise NotAPicture(f"damaged: {error or type(error).__name__}") from None


def _decode_by_pillow(data: bytes, max_pixels: int) -> Decoded:
    if data[4:8] == b"ftyp":
        # Its import takes as long as that of all the rest of Pillow.
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # every core has a process of its own already
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if picture.width * picture.height > max_pixels:
            raise NotAPicture(f"{picture.width}×{picture.height} pixels; at most {max_pixels:,} are read")
        # Not by n_frames, for which Pillow walks through all frames, of which a file may have millions.
        animated = getattr(picture, "is_animated", False) and picture.format != "MPO"
        note = "animated: first frame" if animated else ""
        if picture.mode not in _MODES_8_BIT + _MODES_16_BIT:
            raise NotAPicture(f"pixels of mode {picture.mode}, whose range is not known")
        if picture.format == "AVIF":
            note = _joined(note, _avif_note(data))
        picture.load()
        orientation, unknown = _orientation(picture)
        note = _joined(note, unknown)
        if picture.mode in _MODES_16_BIT:
            grey, few = _upper_8_bits(np.asarray(picture))
            return Decoded(_turned(np.repeat(grey[..., None], 3, axis=2), orientation), _joined(note, few))
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            rgb = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        else:
            rgb = picture.convert("RGB")
    return Decoded(_turned(np.asarray(rgb), orientation), note)


def _upper_8_bits(values: np.ndarray) -> tuple[np.ndarray, str]:
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > 65535:
        raise NotAPicture(f"pixels from {least} to {most}; at most 16 bits are read")
    is_narrow = least < most and (most >> 8) - (least >> 8) < _FEW_LEVELS
    return (values >> 8).astype(np.uint8), FEW_LEVELS if is_narrow else "16 bits: upper 8"


def _avif_note(data: bytes) -> str:
    """AV1 is decoded to the bit; its conversion to RGB is the decoding library's own."""
    configuration = data.find(b"av1C")
    # AV1 Codec ISO Media File Format Binding, 2.3.3: high_bitdepth.
    is_deep = configuration >= 0 and len(data) > configuration + 6 and data[configuration + 6] & 0x40
    return "AVIF: on another processor, pixels may differ by a level" + ("; more than 8 bits: as 8" if is_deep else "")


def _orientation(picture: Image.Image) -> tuple[int, str]:
    """EXIF's orientation, 1 to 8, and a note where that cannot be known."""
    if picture.format == "TIFF":
        return 1, ""  # Pillow applies it
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            # Not by `picture` alone, which has read it before for its resolution, and passed over what was wrong.
            exif = Image.Exif()
            exif.load(picture.info.get("exif", b""))
            value = exif.get(_ORIENTATION) or picture.getexif().get(_ORIENTATION)
        except Exception:  # Pillow's decoders raise nearly every kind of exception for damaged bytes
            return 1, _NO_ORIENTATION
    if value is None:
        return 1, _NO_ORIENTATION if said else ""
    return (value, "") if value in range(1, 9) else (1, "")


def _turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """What was stored in an orientation (EXIF 2.3, 4.6.4), upright."""
    if orientation == 1:
        return rgb
    # Which row and column of the stored pixels are the top and the left of the upright ones.
    if orientation in (3, 4, 6, 7):
        rgb = rgb[::-1]
    if orientation in (2, 3, 7, 8):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb.transpose(1, 0, 2) if orientation in _QUARTER_TURNS else rgb)


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def read_header(stream: IO[bytes]) -> Header:
    """What a picture says of itself, without its pixels, which may be damaged. Raises NotAPicture."""
    with _pillow(b""), Image.open(stream, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise NotAPicture(f"{width}×{height} pixels; at most {MAX_PIXELS:,} are read")
        if _orientation(picture)[0] in _QUARTER_TURNS:
            width, height = height, width
        return Header(width, height, picture.mode in _GREY_MODES)


def pixel_sha256(rgb: np.ndarray) -> bytes:
    """The identity of a picture: SHA-256 of its width, height and pixels, whatever its file's name and format."""
    digest = hashlib.sha256(b"%d %d " % (rgb.shape[1], rgb.shape[0]))
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.digest()


def to_square(rgb: np.ndarray, side: int, how: str, kernel: Kernel = by_numpy) -> np.ndarray:
    """Resize to side×side×3 by bicubic interpolation with antialiasing; to the same bytes by each kernel of resize.py.

    `how` is crop (the largest centred square), pad (black borders) or squash.
    """
    height, width = rgb.shape[:2]
    if (height, width) == (side, side):
        return rgb
    if how == "crop":
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        return _resized(rgb[top : top + short, left : left + short], side, side, kernel)
    if how == "squash":
        return _resized(rgb, side, side, kernel)
    scale = side / max(height, width)
    inner = _resized(rgb, max(1, round(height * scale)), max(1, round(width * scale)), kernel)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - inner.shape[0]) // 2, (side - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def _resized(rgb: np.ndarray, height: int, width: int, kernel: Kernel) -> np.ndarray:
    return rgb if rgb.shape[:2] == (height, width) else kernel(rgb, height, width)
