"""JPEG: what libjpeg says of a file beside its pixels. Of a damaged one it warns, and Pillow passes on errors alone.

libjpeg-turbo's warnings (jerror.h, JWRN_*), and what they say of the pixels:
- bad Huffman or arithmetic code, premature end of data segment, a marker found instead of RST, premature end of file,
  inconsistent progression, extraneous bytes after a scan: the picture is damaged.
- extraneous bytes between the segments of the header, an unknown revision of JFIF or transform of Adobe, parameters
  that a sequential scan does not use: the picture is whole. Cameras and programs write such files.
- extraneous bytes before the end that are zeros: padding, as some cameras write, if the picture is whole without them.
What follows the end marker is not looked at, such as the further pictures of an MPO file. JPEG has no checksum: a
change that leaves as many blocks of pixels as there were, such as that of one bit often does, gives no warning.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import simplejpeg

# Each scan of a progressive JPEG takes as long as a picture, and one without content takes a few bytes. libjpeg's own
# script has 10 scans, and 18 for CMYK.
MAX_SCANS = 32
_START_OF_SCAN = b"\xff\xda"
# A marker of JPEG (ITU-T T.81, B.1.1.2); 0xff 0x00 is a byte of the picture.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
# One that ends the data of a scan: not RST0 to RST7 either.
_END_OF_DATA = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_WITH_LENGTH = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_SEQUENTIAL = (0xC0, 0xC1)
_PROGRESSIVE = (0xC2, 0xCA)
# All that decodes the pixels: frames, DHT (0xC4), DAC (0xCC), scans, DQT and DRI.
_DECODING = _FRAMES | {0xC4, 0xCC, _SCAN, 0xDB, 0xDD}
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression sequence")
_EXTRANEOUS_AT_END = re.compile("Corrupt JPEG data: [0-9]+ extraneous bytes before marker 0xd9")
# The last bytes of a picture may be zeros, too.
_ZEROS_OF_THE_PICTURE = 2
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


class _Segment(NamedTuple):
    """A marker, and where its content begins and ends; of a scan, with its data."""

    marker: int
    start: int
    stop: int


def count_scans(data: bytes) -> int:
    """The scans of a JPEG file, or more: those that libjpeg would come to, by the same rule from marker to marker.

    Where the first one has all components of a sequential frame, libjpeg refuses a second one: most files end here.
    """
    scans = position = components = 0
    while match := _MARKER.search(data, position):
        position = match.end()
        marker = data[position - 1]
        if marker == _END:
            break
        if marker in _SEQUENTIAL:
            components = int.from_bytes(data[position + 7 : position + 8], "big")
        if marker == _SCAN:
            scans += 1
            if scans == 1 and components and data[position + 2 : position + 3] == bytes([components]):
                return 1
            if scans == 1 and (at_most := data.count(_START_OF_SCAN)) <= MAX_SCANS:
                return at_most  # ten times faster than to go on
        if marker in _WITH_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return scans


def damage(data: bytes) -> str:
    """What is wrong with the pixels of a file that can be decoded, in libjpeg's words; empty where they are whole.

    libjpeg keeps the first of its warnings, so whatever may give a harmless one before is left out.
    """
    picture = _bare(data)
    if not (word := _warning(picture)) or not _EXTRANEOUS_AT_END.fullmatch(word):
        return word
    unpadded = picture.removesuffix(b"\xff\xd9").rstrip(b"\0")
    for zeros in range(_ZEROS_OF_THE_PICTURE + 1):
        if not _warning(unpadded + bytes(zeros) + b"\xff\xd9"):
            return ""
    return word


def missing_scans(data: bytes) -> str:
    """What the scans leave out, of a file of several: `colours`, `details`, or nothing.

    libjpeg does not mind. A frame needs some scan of each component; a progressive one may (T.81, G.1.1.1) leave out
    what makes a picture sharp, but programs do not, so such a file was cut between two scans.
    """
    components: dict[int, list[int | None]] = {}
    progressive = False
    for marker, start, _ in _segments(data):
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            components = {number: [None] * 64 for number in data[start + 8 : start + 8 + 3 * data[start + 7] : 3]}
        elif marker == _SCAN:
            end = start + 3 + 2 * data[start + 2]
            first, last, bits = data[end : end + 3] if progressive else (0, 63, 0)
            for number in data[start + 3 : end : 2]:
                if number in components:
                    components[number][first : last + 1] = [bits & 15] * len(range(first, min(last, 63) + 1))
    if any(coefficients[0] is None for coefficients in components.values()):
        return "colours"
    return "details" if any(any(bits != 0 for bits in each) for each in components.values()) else ""


def _warning(picture: bytes) -> str:
    frame = next((start for marker, start, _ in _segments(picture) if marker in _FRAMES), None)
    colours = _COLOURS.get(picture[frame + 7]) if frame is not None else None
    if colours is None:
        return ""
    try:
        simplejpeg.decode_jpeg(picture, colours)
    except ValueError as error:
        # Else of a kind that simplejpeg does not decode, such as 12 bits.
        return str(error) if str(error).startswith(_DAMAGE) else ""
    return ""


def _bare(data: bytes) -> bytes:
    """The picture alone: no metadata, nothing between segments, and for each scan the parameters that it uses."""
    parts = [b"\xff\xd8"]
    sequential = False
    for marker, start, stop in _segments(data):
        if marker in _FRAMES:
            sequential = marker in _SEQUENTIAL
        if marker in _DECODING:
            content = data[start:stop]
            if marker == _SCAN and sequential:
                length = int.from_bytes(content[:2], "big")
                content = content[: length - 3] + b"\0\x3f\0" + content[length:]
            parts += [bytes((0xFF, marker)), content]
        elif marker == _END:
            parts.append(b"\xff\xd9")
    return b"".join(parts)


def _segments(data: bytes) -> Iterator[_Segment]:
    """Those that libjpeg comes to, with a length that the file has; the end marker, if it has one, is the last."""
    position = 0
    while match := _MARKER.search(data, position):
        marker, start = match[1][0], match.end()
        if marker == _END:
            yield _Segment(marker, start, start)
            return
        position = start
        if marker in _WITH_LENGTH:
            position += max(2, int.from_bytes(data[start : start + 2], "big"))
            if position > len(data):
                return
            if marker == _SCAN:
                end = _END_OF_DATA.search(data, position)
                position = end.start() if end else len(data)
            yield _Segment(marker, start, position)
