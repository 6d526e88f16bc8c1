"""Shards are written and read to the same pictures, and what is none is refused, in words."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common import shards
from stages.common.shards import PLACE, ShardError


def shard(pictures: list[bytes]) -> bytes:
    stream = io.BytesIO()
    shards.write(stream, pictures)
    return stream.getvalue()


def places(*of_shards: list[bytes]) -> np.ndarray:
    """The places of all pictures of a split."""
    parts = []
    for number, pictures in enumerate(of_shards):
        part = np.zeros(len(pictures), PLACE)
        part["shard"], part["offset"] = number, shards.write(io.BytesIO(), pictures)
        part["size"] = [len(picture) for picture in pictures]
        parts.append(part)
    return np.concatenate(parts)


def square(side: int = 8, *, grey: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels


def test_a_shard_is_a_chunk_of_litdata() -> None:
    """As litdata's BinaryWriter writes it, by its source: number, offsets, and before each value its size."""
    expected = struct.pack("<I4I", 3, 20, 26, 30, 37) + struct.pack("<I2sII3s", 2, b"ab", 0, 3, b"cde")
    assert shard([b"ab", b"", b"cde"]) == expected


def test_what_was_written_is_found() -> None:
    pictures = [b"one", b"", b"three" * 1000]
    content = shard(pictures)
    offsets, sizes = shards.parse(content)
    found = [content[offset : offset + size] for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]
    assert found == pictures
    assert shards.bytes_of_shards(places(pictures, [b"next"])) == [len(content), len(shard([b"next"]))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (shard([b"one", b"two"])[:-1], "expected 30"),
        (shard([b"one", b"two"]) + b"x", "expected 30"),
        (shard([b"one"] * 100)[:200], "cut off, or no shard"),
        (b"\0" * 64, "0 pictures"),
        (b"\xff\xd8" * 40, "cut off, or no shard"),
        (struct.pack("<I3I", 2, 16, 15, 24) + bytes(8), "its offsets"),
        (struct.pack("<I2II4s", 1, 12, 20, 3, b"four"), "the sizes"),
    ],
)
def test_no_shard_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ShardError, match=reason):
        shards.parse(content)


def test_places_that_are_not_whole_shards_are_refused(tmp_path: Path) -> None:
    good = places([b"one", b"two"], [b"three"], [b"four", b"five"])
    assert len(shards.bytes_of_shards(good)) == 3
    assert shards.bytes_of_shards(good[:0]) == []
    bad = {"shard": [(0, 1), (2, 2), (4, 1)], "offset": [(0, 2**40), (1, 3), (3, 19)], "size": [(0, 2**31), (3, 0)]}
    for field, changes in bad.items():
        for row, value in changes:
            changed = good.copy()
            changed[field][row] = value
            with pytest.raises(ShardError, match=r"its (offsets|shards)"):
                shards.bytes_of_shards(changed)
    for part in (good[1:], good[:1], good[3:]):
        with pytest.raises(ShardError, match=r"its (offsets|shards)"):
            shards.bytes_of_shards(part)
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(ShardError, match="expected places"):
        shards.read_places(tmp_path / "images.npy")
    np.save(tmp_path / "images.npy", good)
    assert (shards.read_places(tmp_path / "images.npy") == good).all()


def test_names_are_in_the_order_of_their_numbers() -> None:
    names = [shards.name_of("train", bucket) for bucket in (0, 70000, 123456, 99999)]
    assert names[1] == "shards/train-0070000.bin"
    others = ["train-images.npy", shards.name_of("val", 1), "shards/train-1.bin", "shards/../train-0000001.bin"]
    assert shards.names_of("train", [*reversed(names), *others]) == [names[0], names[1], names[3], names[2]]
    assert [shards.bucket_of(bytes([0b10110000, 255] + [0] * 30), bits) for bits in (0, 1, 4, 16)] == [0, 1, 11, 45311]


@pytest.mark.parametrize("quality", [shards.LOSSLESS, 95])
@pytest.mark.parametrize("grey", [False, True])
def test_a_picture_is_encoded_and_decoded(quality: int, grey: bool) -> None:
    pixels = np.asarray(Image.fromarray(square(4, grey=grey)).resize((32, 32), Image.Resampling.BICUBIC))
    encoded = shards.encode(pixels, quality)
    out = np.empty((32, 32, 3), np.uint8)
    for decoded in (shards.decode(encoded, 3), shards.decode(memoryview(encoded), 3, out), out):
        assert np.abs(decoded.astype(int) - pixels).mean() < (12 if quality else 1e-9)
    if grey:
        assert (shards.decode(encoded, 1) == shards.decode(encoded, 3)[..., :1]).all()
        assert encoded == shards.encode(pixels[..., :1], quality)
    else:
        with pytest.raises(ShardError, match="in colour"):
            shards.decode(encoded, 1)


@pytest.mark.parametrize("quality", [shards.LOSSLESS, 95])
def test_a_picture_that_is_none_is_refused(quality: int) -> None:
    encoded = shards.encode(square(64), quality)
    with pytest.raises(ShardError, match="damaged"):
        shards.decode(encoded[: len(encoded) // 2], 3)
    with pytest.raises(ShardError, match="64×64 pixels; expected 8×8"):
        shards.decode(encoded, 3, np.empty((8, 8, 3), np.uint8))
    with pytest.raises(ShardError, match="at most 1024"):
        shards.decode(shards.encode(np.zeros((1025, 8, 3), np.uint8), quality), 3)
    with pytest.raises(ShardError, match="neither"):
        shards.decode(encoded[1:], 3)
