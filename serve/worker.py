"""A process that decodes pictures, one after the other, for the service: `python -m serve.worker` with what it needs to
know as JSON. It reads them from standard input and writes the squares that the model sees to standard output.

A process of its own, because decoders of pictures are large programs in C that read what strangers send: one that
crashes or hangs takes no answer along but its own, its memory has a limit, and prepare's reading of pictures, which is
not made for threads, stays what it is.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from serve.messages import REPLY, REQUEST
from stages.prepare.picture import NotAPicture, decode
from stages.prepare.seen import as_seen

# Decoded as RGBA, laid over white, and as RGB, with copies between: at most 23, by WebP, of 14 kinds of 16 megapixels.
_BYTES_PER_PIXEL = 32
_SPARE_BYTES = 256 * 2**20


def main() -> None:
    setup = json.loads(sys.argv[1])
    # The terminal's Ctrl-C goes to all; the service ends its processes itself, by closing their input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = sys.stdin.buffer
    target = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints is no reply.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    limit_memory(setup["pixels"] * _BYTES_PER_PIXEL + setup["body_bytes"] * 4 + _SPARE_BYTES)
    # That it has started.
    reply(target, True, 0, 0, "", b"")
    while head := source.read(REQUEST.size):
        size, index = REQUEST.unpack(head)
        answer(target, source.read(size), setup["pixels"], setup["recipes"][index])


def answer(target: BinaryIO, data: bytes, pixels: int, recipe: dict[str, Any]) -> None:
    """Decode one picture, and reply."""
    try:
        picture = decode(data, max_pixels=pixels)
        seen = as_seen(picture, recipe["stored_size"], recipe["resize"], recipe["channels"])
    except NotAPicture as error:
        return reply(target, False, 0, 0, str(error), b"")
    except MemoryError:
        return reply(target, False, 0, 0, "too large for the memory of the service", b"")
    height, width = picture.rgb.shape[:2]
    return reply(target, True, width, height, seen.note, seen.pixels.tobytes())


def reply(target: BinaryIO, is_picture: bool, width: int, height: int, text: str, row: bytes) -> None:
    """One message."""
    note = text.encode(errors="backslashreplace")
    target.write(REPLY.pack(is_picture, width, height, len(note), len(row)) + note + row)
    target.flush()


def limit_memory(more: int) -> None:
    """Let this process map so many bytes more than it has; does nothing where there is no /proc."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + more, mapped + more))


if __name__ == "__main__":
    main()
