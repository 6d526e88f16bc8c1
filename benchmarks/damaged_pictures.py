"""Damaged pictures under prepare's decoder: `.venv/bin/python -m benchmarks.damaged_pictures`.

Of each format, photographs are cut, with or without an end mark, overwritten with zeros, or changed in bits, bytes and
whole stretches. Each file is decoded as prepare does, by simplejpeg where that can, and again by Pillow with what
jpeg.py and png.py say of the file. What must not happen:

crash      a decoder ends in anything but a picture or a reason
hidden     a reason without words
verdict    one of them refuses what the other one reads
pixels     both read it, and not the same

Of what is read, it counts how much has the whole picture's pixels, and how much has other ones: formats without
checksums have no way to tell.
"""

import argparse
import io
import random
import sys
import time
import unittest.mock
from collections import Counter

import numpy as np
from PIL import Image

from stages.prepare import picture
from stages.prepare.picture import FORMATS, Decoded, NotAPicture, decode

_OPTIONS: dict[str, list[dict[str, object]]] = {
    "JPEG": [
        {"quality": 90},
        {"quality": 75, "progressive": True},
        {"quality": 90, "restart_marker_blocks": 4},
        {"quality": 90, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    ],
    "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}],
    "WEBP": [{}, {"lossless": True}],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.damaged_pictures", description="Damaged pictures.")
    parser.add_argument("--files", type=int, default=2000, help="of each format (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    arguments = parser.parse_args()
    is_bad = False
    for form in FORMATS:
        chance = random.Random(f"{arguments.seed} {form}")
        wholes = [_encoded(form, options, number) for number, options in enumerate(_OPTIONS.get(form, [{}]))]
        pixels = [decode(whole).rgb.copy() for whole in wholes]
        counts: Counter[str] = Counter()
        started = time.perf_counter()
        for number in range(arguments.files):
            chosen = number % len(wholes)
            data = damaged(wholes[chosen], chance)
            outcome = compare(data, pixels[chosen])
            counts[outcome] += 1
            if outcome not in ("refused", "same", "changed"):
                is_bad = True
                print(f"{form} {outcome}: file {number} of seed {arguments.seed}", file=sys.stderr)
        print(
            f"{form:4} {arguments.files} files: {counts['refused']} refused; read: {counts['same']} with the whole "
            f"picture's pixels, {counts['changed']} with others; "
            + ", ".join(f"{name} {counts[name]}" for name in ("crash", "hidden", "verdict", "pixels"))
            + f" ({time.perf_counter() - started:.0f} s)",
            flush=True,
        )
    sys.exit(is_bad)


def compare(data: bytes, whole: np.ndarray) -> str:
    try:
        fast = _outcome(data)
        with unittest.mock.patch.object(picture, "_decode_plain_jpeg", lambda *_: None):
            slow = _outcome(data)
    except Exception as error:  # whatever it is, it is what must not happen
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "crash"
    if isinstance(fast, str) or isinstance(slow, str):
        if not (isinstance(fast, str) and isinstance(slow, str)):
            return "verdict"
        return "refused" if fast and slow else "hidden"
    if fast.note != slow.note or not np.array_equal(fast.rgb, slow.rgb):
        return "pixels"
    return "same" if np.array_equal(fast.rgb, whole) else "changed"


def _outcome(data: bytes) -> Decoded | str:
    try:
        return decode(data)
    except NotAPicture as error:
        return str(error)


def damaged(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    place = chance.randrange(len(data))
    length = min(len(data) - place, chance.choice((1, 4, 32, 256, 2048)))
    match chance.randrange(6):
        case 0:
            del data[place:]
        case 1:
            del data[place:]
            data += whole[-chance.randint(2, 12) :]
        case 2:
            data[place : place + length] = bytes(length)
        case 3:
            data[place] ^= 1 << chance.randrange(8)
        case 4:
            data[place : place + length] = chance.randbytes(length)
        case _:
            del data[place : place + length]
    return bytes(data)


def _encoded(form: str, options: dict[str, object], seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((120, 90), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(smooth + generator.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, form, **options)
    return stream.getvalue()


if __name__ == "__main__":
    main()
