"""Shards: files of encoded pictures, in place of the array of a split that is too large to be one file.

prepared/{split}-images.npy says where each picture lies, instead of holding its pixels: a row of PLACE for each, in the
order of the split, which is that of the SHA-256 of the raw pixels. A shard holds the pictures whose SHA-256 begins with
the same bits; of those that hold any, the first in this order is number 0.

A shard is a chunk of litdata with `data_format: ["bytes"]` (litdata.streaming.writer.BinaryWriter), little-endian:
uint32 n; uint32[n + 1], where each item begins in the file, and where the last one ends; then n items, each the
uint32 number of its bytes and these bytes, JPEG or PNG.
"""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

# Number of the shard in its split; the first byte of the picture in it, and the number of its bytes.
PLACE = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("size", "<u4")])
FOLDER = "shards"
LOSSLESS = 0
# stages/prepare/params.py: stored_size.
MAX_SIDE = 1024
# Beyond it, an offset would not fit.
MAX_BYTES = 2**32 - 1
# Of a file in FOLDER.
NAME = re.compile(r"(train|val|test)-([0-9]{5,7})\.bin")
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
# As in most photographs: colours at half the resolution.
_SUBSAMPLING = "420"


class ShardError(ValueError):
    """Why a content is no shard, no place in one, or no picture of one, in one line."""


def name_of(split: str, bucket: int) -> str:
    """The path below prepared/ of the shard of a split whose pictures have the least `bucket_of` of so many bits: a
    number that no other shard of the split has, and by which they are in order."""
    return f"{FOLDER}/{split}-{bucket:07}.bin"


def names_of(split: str, names: Iterable[str]) -> list[str]:
    """Of files below prepared/, such as dataset.json's `sha256` has, the shards of a split by their numbers."""
    files = (name.removeprefix(f"{FOLDER}/") for name in names if name.startswith(f"{FOLDER}/"))
    found = [match for match in map(NAME.fullmatch, files) if match and match[1] == split]
    return [f"{FOLDER}/{match[0]}" for match in sorted(found, key=lambda match: int(match[2]))]


def images_of(path: str) -> str:
    """The {split}-images.npy beside a shard, both by their paths below the same folder; '' where it is no shard's path.
    What lists the one as a dep needs the other."""
    folder, separator, name = path.rpartition(f"{FOLDER}/")
    match = NAME.fullmatch(name)
    return f"{folder}{match[1]}-images.npy" if separator and match else ""


def bucket_of(sha256: bytes, bits: int) -> int:
    """The first `bits` bits of a SHA-256, at most 24, as a number."""
    return int.from_bytes(sha256[:3], "big") >> (24 - bits)


def write(stream: IO[bytes], pictures: Sequence[bytes]) -> np.ndarray:
    """Write a shard of at least one picture, and return their offsets in it, uint64 n. ValueError beyond MAX_BYTES."""
    sizes = np.array([len(picture) for picture in pictures], np.uint64)
    starts = _starts(sizes)
    if int(starts[-1]) > MAX_BYTES:
        raise ValueError(f"a shard of {int(starts[-1]):,} bytes; at most {MAX_BYTES:,}")
    stream.write(np.uint32(len(pictures)).tobytes() + starts.astype("<u4").tobytes())
    for picture in pictures:
        stream.write(len(picture).to_bytes(4, "little") + picture)
    return starts[:-1] + np.uint64(4)


def parse(shard: bytes | memoryview) -> tuple[np.ndarray, np.ndarray]:
    """Where the pictures of a shard lie in it, and their sizes, both uint64 n. Raises ShardError where it is cut off,
    or of another format."""
    if len(shard) < 12:
        raise ShardError(f"{len(shard)} bytes; expected 12 at least")
    number = int.from_bytes(shard[:4], "little")
    if not 0 < number <= (len(shard) - 8) // 8:
        raise ShardError(f"{number:,} pictures in {len(shard):,} bytes: cut off, or no shard")
    starts = np.frombuffer(shard, "<u4", number + 1, 4).astype(np.uint64)
    if starts[0] != 8 + 4 * number or (starts[1:] < starts[:-1] + np.uint64(4)).any():
        raise ShardError("its offsets are not those of a shard")
    if starts[-1] != len(shard):
        raise ShardError(f"{len(shard):,} bytes; expected {int(starts[-1]):,}")
    sizes = np.diff(starts) - np.uint64(4)
    stated = [int.from_bytes(shard[start : start + 4], "little") for start in starts[:-1].tolist()]
    if sizes.tolist() != stated:
        raise ShardError("the sizes of its pictures are not those that its offsets say")
    return starts[:-1] + np.uint64(4), sizes


def is_sharded(images: np.ndarray) -> bool:
    """Whether {split}-images.npy has places in shards, and no pixels."""
    return images.dtype == PLACE


def bytes_of_shards(places: np.ndarray) -> list[int]:
    """The size of each shard's file, of a split's places, PLACE n. Raises ShardError where these are not the pictures
    of whole shards, one after the other."""
    if places.ndim != 1 or places.dtype != PLACE:
        raise ShardError(f"expected places in shards, {PLACE}, got {places.dtype} {places.shape}")
    if not len(places):
        return []
    shards = places["shard"].astype(np.int64)
    first = np.diff(shards, prepend=-1)
    if not ((first == 0) | (first == 1)).all() or shards[0] != 0:
        raise ShardError("its shards are not in order")
    (begins,) = np.nonzero(first)
    counts = np.diff(begins, append=len(places)).astype(np.uint64)
    offsets, sizes = places["offset"], places["size"].astype(np.uint64)
    ends = offsets + sizes
    expected = np.concatenate([offsets[:1], ends[:-1] + np.uint64(4)])
    expected[begins] = 12 + 4 * counts
    if (offsets != expected).any() or int(ends.max()) > MAX_BYTES:
        raise ShardError("its offsets are not those of shards")
    whole: list[int] = ends[np.append(begins[1:], len(places)) - 1].tolist()
    return whole


def read_places(path: Path) -> np.ndarray:
    """The places of a split, PLACE n, mapped. Raises ShardError where it has other rows, and what np.load raises."""
    places: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
    bytes_of_shards(places)
    return places


def encode(square: np.ndarray, quality: int) -> bytes:
    """A picture, uint8 S×S×C, as JPEG of a quality of 1 to 100, or by LOSSLESS as PNG; a grey one has one channel."""
    if square.shape[2] == 3 and _is_grey(square):
        square = square[..., :1]
    square = np.ascontiguousarray(square)
    if quality == LOSSLESS:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(square if square.shape[2] == 3 else square[..., 0]).save(stream, "PNG")
        return stream.getvalue()
    import simplejpeg

    if square.shape[2] == 3:
        return bytes(simplejpeg.encode_jpeg(square, quality, "RGB", _SUBSAMPLING))
    return bytes(simplejpeg.encode_jpeg(square, quality, "GRAY", "Gray"))


def decode(picture: bytes | memoryview, channels: int, out: np.ndarray | None = None) -> np.ndarray:
    """The pixels of a picture, uint8 H×W×channels, written to `out` if that is given, whose shape is then expected.

    Raises ShardError where it is no JPEG or PNG of that shape, or not whole, or in colour where `channels` is 1.
    """
    # Imported here and above: train begins sooner where there are no shards.
    import simplejpeg
    from PIL import Image

    try:
        if picture[:2] == _JPEG:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(picture)
            out = _require_shape((height, width, channels), colours == "Gray", out)
            simplejpeg.decode_jpeg(picture, "RGB" if channels == 3 else "GRAY", buffer=out)
            return out
        if picture[:8] != _PNG:
            raise ShardError("neither JPEG nor PNG")
        with Image.open(io.BytesIO(picture), formats=("PNG",)) as image:
            if image.mode not in ("L", "RGB"):
                raise ShardError(f"PNG of mode {image.mode}; expected L or RGB")
            out = _require_shape((image.height, image.width, channels), image.mode == "L", out)
            out[...] = np.asarray(image).reshape(image.height, image.width, -1)
            return out
    except ShardError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception for damaged bytes
        raise ShardError(f"damaged: {error or type(error).__name__}") from None


def _starts(sizes: np.ndarray) -> np.ndarray:
    """Where items with pictures of such sizes begin, and where the last one ends; uint64 n + 1."""
    first = np.array([8 + 4 * len(sizes)], np.uint64)
    return np.concatenate([first, first + np.cumsum(sizes + np.uint64(4))])


def _is_grey(square: np.ndarray) -> bool:
    return np.array_equal(square[..., 0], square[..., 1]) and np.array_equal(square[..., 0], square[..., 2])


def _require_shape(shape: tuple[int, int, int], is_grey: bool, out: np.ndarray | None) -> np.ndarray:
    """Where to decode to. A header alone says the shape: nothing is allocated that no picture of a shard needs."""
    if max(shape[:2]) > MAX_SIDE or (out is not None and out.shape != shape):
        expected = f"at most {MAX_SIDE}×{MAX_SIDE}" if out is None else f"{out.shape[1]}×{out.shape[0]}"
        raise ShardError(f"{shape[1]}×{shape[0]} pixels; expected {expected}")
    if shape[2] == 1 and not is_grey:
        raise ShardError("in colour; expected grey")
    return np.empty(shape, np.uint8) if out is None else out
