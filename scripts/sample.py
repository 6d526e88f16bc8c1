"""The embedded sample: the 1,797 handwritten digits that scikit-learn carries, as data/<digit>/<number>.png.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning
Repository, 1998): 8×8 pixels of 17 grey levels, real people's handwriting. The PNG files are written by hand, without
compression, because a compressor's bytes change with its version and data.dvc names bytes.
"""

import argparse
import struct
import zlib
from pathlib import Path

from stages.common.errors import UserError, run_main
from stages.common.files import replacing_folder

# What `dvc add` computes for the sample; data.dvc names the sample if and only if it holds this.
DVC_MD5 = "72e131e0cd93ceeb743a1f9fa75849e9.dir"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.sample", description="Write the sample images, 1,797 handwritten digits."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("data"), help="where to; must be empty or missing (default: data)"
    )
    folder = parser.parse_args().folder
    write_sample(folder)
    print(f"sample: 1797 images written to {folder}/")


def write_sample(folder: Path) -> None:
    """Write the sample into `folder`, the same bytes on every platform. UserError where the folder holds anything."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(
            f"{folder}: not empty. The sample is only written into an empty folder, so that no image is lost."
        )
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype("uint8")
    with replacing_folder(folder) as temporary:
        for number, (pixels, digit) in enumerate(zip(images, digits.target, strict=True)):
            path = temporary / str(digit) / f"{number:04}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(uncompressed_png(pixels.tobytes(), width=8, height=8))


def uncompressed_png(pixels: bytes, width: int, height: int) -> bytes:
    """A grey 8-bit PNG of `pixels`, row by row, in one stored block: 65,535 bytes at most (PNG 1.2; RFC 1950, 1951)."""
    rows = b"".join(b"\0" + pixels[row * width : (row + 1) * width] for row in range(height))
    stored = struct.pack("<BHH", 1, len(rows), len(rows) ^ 0xFFFF) + rows
    zlib_stream = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib_stream), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


if __name__ == "__main__":
    run_main(main)
