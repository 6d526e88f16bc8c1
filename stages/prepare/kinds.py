"""What a file is that is none of the pictures that prepare reads, by its first bytes, and what to do with it."""

import contextlib
import io
import re

from PIL import Image, TiffImagePlugin

_CONVERT = "convert it to PNG or JPEG"
_AGAIN = "get the picture again"
# https://en.wikipedia.org/wiki/List_of_file_signatures, and for the brands of ISO media https://mp4ra.org.
_BRANDS = {
    **dict.fromkeys(("avif", "avis"), "AVIF"),
    **dict.fromkeys(("heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"), "HEIC"),
    "crx ": "Canon CR3 raw",
}
_SIGNATURES = [
    (rb"version https://git-lfs\.github\.com/spec/", "a pointer of Git LFS", "run `git lfs pull`"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "JPEG XL", _CONVERT),
    (rb"II\xbc", "JPEG XR", _CONVERT),
    (rb"8BPS", "Photoshop", _CONVERT),
    (rb"%PDF-", "PDF", _CONVERT),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (rb"\0\0[\x01\x02]\0.\0", "an icon", _CONVERT),
    (rb".{128}DICM", "DICOM", _CONVERT),
    (rb"SIMPLE  =", "FITS", _CONVERT),
    (rb"\x76\x2f\x31\x01", "OpenEXR", _CONVERT),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance HDR", _CONVERT),
    (rb"\x93NUMPY", "an array of NumPy", _CONVERT),
    (rb"\x89HDF\r\n", "HDF5", _CONVERT),
    (rb"\x1a\x45\xdf\xa3|RIFF....AVI ", "a video", "take pictures out of it"),
    (rb"PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ", "an archive", "name it as one, or unpack it"),
    (rb"(?i)\s*<(!doctype html|html|head|body)", "an HTML page, as a server sends instead of a file", _AGAIN),
    (rb"(?i)\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg", "SVG, a drawing", _CONVERT),
    (rb"\s*<\?xml|\s*<[A-Za-z]+[ >]", "XML", _AGAIN),
    (rb"\s*[{\[]\s*[\"{\[]", "JSON", _AGAIN),
    (rb"\0+$", "zeros alone, as a copy that was broken off leaves", _AGAIN),
    (rb"[\t\n\r\x20-\x7e]+$", "text", _AGAIN),
]
_PATTERNS = [(re.compile(pattern, re.S), kind, remedy) for pattern, kind, remedy in _SIGNATURES]
_LOOKED_AT = 4096
_MAX_BANDS = 4


def describe(data: bytes) -> str:
    """What `data` is, with a remedy, as `HEIC; convert it to PNG or JPEG`; empty where that is not known."""
    head = data[:_LOOKED_AT].removeprefix(b"\xef\xbb\xbf")
    for pattern, kind, remedy in _PATTERNS:
        if pattern.match(head):
            return f"{kind}; {remedy}"
    if head[4:8] == b"ftyp":
        brand = head[8:12].decode("latin1")
        return f"{_BRANDS.get(brand, 'a video, or other media of ISO')}; {_CONVERT}"
    return ""


def why_not_opened(data: bytes, formats: tuple[str, ...]) -> str:
    """Why Pillow does not open a file that begins as one of `formats`, which it names; empty where none begins so."""
    for name in formats:
        plugin, accept = Image.OPEN[name]
        if accept is None or not accept(data[:16]):
            continue
        if name == "TIFF" and (bands := _bands(data)) > _MAX_BANDS:
            return f"{bands} bands; at most {_MAX_BANDS} are read"
        try:
            plugin(io.BytesIO(data), "")
        except Exception as error:  # Pillow's decoders raise nearly every kind of exception for damaged bytes
            return f"damaged {name}: {error or type(error).__name__}"
    return ""


def _bands(data: bytes) -> int:
    """The samples per pixel that a TIFF file states; 0 where it states none, or is damaged."""
    with contextlib.suppress(Exception):
        stream = io.BytesIO(data)
        directory = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if data[2:3] == b"+" else 8))
        stream.seek(directory.next)
        directory.load(stream)
        return int(directory.get(TiffImagePlugin.SAMPLESPERPIXEL, 0))
    return 0
