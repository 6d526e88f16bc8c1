"""PNG: the checksums of its chunks (ISO/IEC 15948, 5.3), which Pillow checks of all but the pixels."""

import struct
import zlib
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Beside the critical chunks, which begin with a capital, the one that has a say in the pixels.
_TRANSPARENCY = b"tRNS"


class Checked(NamedTuple):
    """A file without those broken chunks that have no say in its pixels; the types of these, and of the other ones."""

    data: bytes
    left_out: list[str]
    broken: list[str]


def check(data: bytes) -> Checked:
    """The file with its broken chunks told apart. Where it is cut off, the rest is as it is: Pillow tells that."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    left_out: list[str] = []
    broken: list[str] = []
    position = len(SIGNATURE)
    view = memoryview(data)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        stop = position + 12 + length
        if stop > len(data):
            break
        is_whole = zlib.crc32(view[position + 4 : stop - 4]) == int.from_bytes(view[stop - 4 : stop], "big")
        has_a_say = kind[:1].isupper() or kind == _TRANSPARENCY
        if not is_whole:
            (broken if has_a_say else left_out).append(kind.decode("ascii", "backslashreplace"))
        if is_whole or has_a_say:
            kept.append(view[position:stop])
        position = stop
        if kind == b"IEND":
            break
    return Checked(b"".join([*kept, view[position:]]) if left_out else data, left_out, broken)
