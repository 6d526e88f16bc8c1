"""Pixels as people see them, whatever the file; damaged files are refused, never a crash."""

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image, ImageOps, TiffImagePlugin

from stages.prepare.jpeg import count_scans
from stages.prepare.picture import Canvas, NotAPicture, decode, pixel_sha256, to_square


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise, as a camera gives. Whichever tests come before: of a hundred progressive JPEGs
    that are cut anywhere, one is cut where no decoder minds."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(pixels + generator.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8))


def tiff_of_bands(number: int) -> bytes:
    """4×4 pixels, grey and further bands, as a satellite's camera gives."""
    pixels = bytes(16 * number)
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8 + 2 + 12 * 9 + 4, 277: number, 278: 4, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + pixels


def chunk(kind: bytes, content: bytes, error: int = 0) -> bytes:
    """A chunk of PNG, with a checksum that is so far off."""
    checksum = zlib.crc32(kind + content) ^ error
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (250, 10, 20), (250, 10, 20)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (250, 10, 20, 0), (255, 255, 255)),
        ("RGBA", (250, 10, 20, 255), (250, 10, 20)),
        ("LA", (77, 255), (77, 77, 77)),
        ("P", 0, (0, 0, 0)),
        ("I;16", 0xABCD, (0xAB, 0xAB, 0xAB)),
    ],
)
def test_modes(mode: str, colour: int | tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Every mode becomes RGB; transparent parts lie over white; 16 bits keep the upper 8."""
    rgb, note = decode(encoded(Image.new(mode, (5, 4), colour)))
    assert rgb.shape == (4, 5, 3)
    assert rgb.dtype == np.uint8
    assert tuple(rgb[2, 2]) == expected
    assert note == ("16 bits: upper 8" if mode == "I;16" else "")


def test_cmyk() -> None:
    rgb, _ = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert rgb[4, 4] == pytest.approx([255, 0, 0], abs=6)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    rgb, note = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(rgb[3, 3]) == (255, 0, 0)
    assert note == "animated: first frame"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, form: str) -> None:
    """However the camera was held, a viewer and we see the same picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph(24, 16), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decode(data).rgb, np.asarray(expected))
    assert decode(data).rgb.shape[:2] == ((16, 24) if orientation <= 4 else (24, 16))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 32), (500, 375), (33, 500)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_the_fast_decoder_gives_pillows_pixels(
    size: tuple[int, int], subsampling: str, progressive: bool, grey: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photograph(*size).convert("L" if grey else "RGB")
    data = encoded(picture, "JPEG", quality=75, subsampling=subsampling, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    monkeypatch.setattr("stages.prepare.picture._decode_by_pillow", lambda data: pytest.fail("not by the fast decoder"))
    assert np.array_equal(decode(data).rgb, expected)


def test_a_canvas_changes_no_pixel() -> None:
    """Large, small, large again: each picture as without the shared memory."""
    canvas = Canvas()
    for size in ((60, 40), (20, 10), (60, 40), (90, 70)):
        data = encoded(photograph(*size), "JPEG")
        assert np.array_equal(decode(data, canvas).rgb, decode(data).rgb)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty file"),
        (b"hello", "text; get the picture again"),
        (b"\x01\x02\x03" * 9, "not PNG, JPEG, BMP, GIF, PPM, TIFF, WEBP or AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC; convert it to PNG or JPEG"),
        (encoded(photograph(8, 8), "JPEG2000"), "JPEG 2000; convert it"),
        (b"\n<!DOCTYPE html>\n<title>404</title>", "an HTML page, as a server sends instead of a file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS; run `git lfs pull`"),
        (bytes(99), "zeros alone"),
        (tiff_of_bands(13), "^13 bands; at most 4 are read"),
        (encoded(photograph(64, 64), "PNG")[:30], "damaged PNG: "),
        (encoded(photograph(64, 64))[:2000], "damaged: "),
        (encoded(photograph(64, 64), "JPEG")[:700], "damaged: "),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "mode F, whose range is not known"),
        (encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"), "at most 16 bits are read"),
        (encoded(Image.new("1", (10_000, 9_000))), "10000×9000 pixels; at most 89,478,485 are read"),
        (encoded(Image.new("1", (20_000, 9_000))), "at most 89,478,485 are read"),
        (encoded(Image.new("L", (10_000, 9_000)), "JPEG"), "10000×9000 pixels; at most 89,478,485 are read"),
    ],
)
def test_refused(data: bytes, expected: str) -> None:
    with pytest.raises(NotAPicture, match=expected.replace("(", r"\(")):
        decode(data)


def test_scans_of_a_jpeg_without_end() -> None:
    """Each takes as long as the picture. What looks like one in a thumbnail, or after the end, is none."""
    data = encoded(photograph(64, 48), "JPEG", progressive=True)
    assert count_scans(data) == 10
    last = data[data.rindex(b"\xff\xda") : -2]
    for fill in (b"", b"\xff\xff", b"\xff\x00junk"):
        with pytest.raises(NotAPicture, match="70 scans; at most 32 are read"):
            decode(data[:-2] + (fill + last) * 60 + b"\xff\xd9")
    comment = b"\xff\xfe" + struct.pack(">H", 202) + b"\xff\xda" * 100
    harmless = data[:2] + comment + data[2:] + b"\xff\xda" * 100
    assert count_scans(harmless) == 10
    assert np.array_equal(decode(harmless).rgb, decode(data).rgb)
    sequential = encoded(photograph(64, 48), "JPEG")
    assert count_scans(sequential) == 1
    # libjpeg refuses more than the one scan of such a file, so others cost nothing.
    again = sequential[:-2] + sequential[sequential.rindex(b"\xff\xda") : -2] * 60 + b"\xff\xd9"
    assert count_scans(again) == 1
    with pytest.raises(NotAPicture, match="damaged"):
        decode(again)
    cmyk = encoded(Image.new("CMYK", (8, 8)), "JPEG", progressive=True)
    assert count_scans(cmyk) == 18
    decode(cmyk)


@pytest.mark.parametrize("kind", ["plain", "progressive", "restarts", "exif", "cmyk"])
def test_jpegs_of_which_libjpeg_warns(kind: str) -> None:
    """Whether simplejpeg decodes the file or Pillow, which passes over warnings: pixels that are damaged are refused,
    also after a harmless warning; others are read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, dict[str, Any]] = {
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_blocks": 5},
        "exif": {"exif": exif},
    }
    picture = photograph(200, 150).convert("CMYK" if kind == "cmyk" else "RGB")
    whole = encoded(picture, "JPEG", quality=90, **options.get(kind, {}))
    middle, expected = len(whole) * 2 // 3, decode(whole).rgb
    harmless = [
        whole + b"\0" * 99 + whole,
        whole[:-2] + bytes(5) + whole[-2:],
        whole.replace(b"\xff\xda", b"\0\0\0\xff\xda", 1),
        whole.replace(b"JFIF\0\x01\x01", b"JFIF\0\x00\x00", 1),
    ]
    for data in harmless:
        assert np.array_equal(decode(data).rgb, expected)
    for base in (whole, harmless[2]):
        for damaged in (
            base[: middle // 2] + bytes(middle) + base[middle // 2 + middle :],
            base[:middle] + b"\xff\xd9",
            base[:-300] + bytes(298) + base[-2:],
        ):
            with pytest.raises(NotAPicture, match="damaged: "):
                decode(damaged)


def test_a_progressive_jpeg_cut_between_scans() -> None:
    """No decoder minds: the pixels are there, without their details."""
    data = encoded(photograph(64, 48), "JPEG", progressive=True)
    scans = [match.start() for match in re.finditer(b"\xff\xda", data)]
    assert decode(data).note == ""
    cut = data[: data.rindex(b"\xff\xc4", 0, scans[4])] + b"\xff\xd9"
    assert decode(cut).note == "progressive, but not all of its scans: lacks detail"


@pytest.mark.parametrize(
    "exif", [b"garbage", b"MM\0*\0\0\0\x08\0\x05\x01", b"II*\0\xff\xff\xff\xff"], ids=["none", "cut", "outside"]
)
def test_exif_that_cannot_be_read(exif: bytes) -> None:
    """The pixels are whole, and how the camera was held is not known."""
    note = "EXIF cannot be read: shown as stored"
    picture = photograph(24, 16)
    png, jpeg = encoded(picture), encoded(picture, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    for data, whole in (
        (png[:33] + chunk(b"eXIf", exif) + png[33:], png),
        (png[:33] + chunk(b"eXIf", exif, error=1) + png[33:], png),
        (jpeg[:2] + segment + jpeg[2:], jpeg),
    ):
        rgb, said = decode(data)
        assert np.array_equal(rgb, decode(whole).rgb)
        assert said == note


def test_checksums_of_a_png() -> None:
    """A broken one of the pixels, or of their transparency, refuses the picture; elsewhere it is noted."""
    png = encoded(photograph(24, 16))
    damaged = bytearray(png)
    damaged[png.index(b"IDAT") + 4 + struct.unpack_from(">I", png, png.index(b"IDAT") - 4)[0]] ^= 1
    with pytest.raises(NotAPicture, match="damaged: wrong checksum of IDAT"):
        decode(bytes(damaged))
    with pytest.raises(NotAPicture, match="damaged: wrong checksum of tRNS"):
        decode(png[:33] + chunk(b"tRNS", bytes(6), error=1) + png[33:])
    rgb, note = decode(png[:33] + chunk(b"tEXt", b"a\0b", error=1) + png[33:])
    assert np.array_equal(rgb, decode(png).rgb)
    assert note == "damaged beside its pixels: tEXt"


def test_16_bits_of_which_few_levels_are_left() -> None:
    """A camera of 12 bits leaves 16 of 256 levels; a picture of one shade loses nothing."""
    values = np.random.default_rng(0).integers(0, 4096, (20, 20)).astype(np.uint16)
    assert decode(encoded(Image.fromarray(values))).note == "16 bits: upper 8, which leave 32 levels of 256 or fewer"
    assert decode(encoded(Image.fromarray(values * 16))).note == "16 bits: upper 8"


def test_avif() -> None:
    """As other formats: turned upright, its first frame; damaged, refused."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = photograph(64, 48)
    rgb, note = decode(encoded(picture, "AVIF", quality=95, exif=exif))
    assert rgb.shape == (64, 48, 3)
    assert np.abs(rgb.astype(int) - np.asarray(picture.transpose(Image.Transpose.ROTATE_270))).mean() < 4
    assert note == "AVIF: on another processor, pixels may differ by a level"
    animated = encoded(picture, "AVIF", save_all=True, append_images=[photograph(64, 48, seed=1)])
    assert decode(animated).note.startswith("animated: first frame; ")
    with pytest.raises(NotAPicture, match="damaged"):
        decode(encoded(picture, "AVIF")[:-99])


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_frames_after_the_second_are_not_looked_at(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow counts by walking through all of them, and a file may have millions."""
    frames = [Image.new("L", (6, 6), shade) for shade in range(9)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    plugins: dict[str, Any] = {"GIF": GifImagePlugin.GifImageFile, "TIFF": TiffImagePlugin.TiffImageFile}
    plugin = plugins[form]
    visited, seek = [], plugin._seek

    def record(self: object, frame: int, *more: bool) -> None:
        visited.append(frame)
        seek(self, frame, *more)

    monkeypatch.setattr(plugin, "_seek", record)
    assert decode(data).note == "animated: first frame"
    assert max(visited) <= 1


WHOLE = {
    form: encoded(photograph(40, 30), form, **options)
    for form, options in {
        "PNG": {},
        "JPEG": {},
        "GIF": {},
        "BMP": {},
        "TIFF": {"compression": "tiff_lzw"},
        "WEBP": {},
        "AVIF": {},
    }.items()
}


@settings(max_examples=400, deadline=None)
@given(
    form=st.sampled_from(sorted(WHOLE)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
)
@pytest.mark.slow
def test_damaged_files_never_crash(form: str, cut: float, flips: list[tuple[float, int]]) -> None:
    """Cut anywhere, with any bytes changed: a picture or a reason."""
    data = bytearray(WHOLE[form][: round(cut * len(WHOLE[form]))])
    for place, value in flips:
        if data:
            data[int(place * (len(data) - 1))] = value
    try:
        rgb = decode(bytes(data)).rgb
    except NotAPicture as error:
        assert str(error)
    else:
        assert rgb.dtype == np.uint8
        assert rgb.ndim == 3
        assert rgb.shape[2] == 3


def test_the_hash_is_of_pixels_and_shape() -> None:
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert pixel_sha256(rgb) == pixel_sha256(np.asfortranarray(rgb))
    assert pixel_sha256(rgb) != pixel_sha256(rgb.reshape(4, 2, 3))
    assert pixel_sha256(rgb) != pixel_sha256(rgb[::-1])


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (90, 90), (20, 31)])
@pytest.mark.parametrize("side", [32, 64, 224])
def test_resizing_is_pillows_within_a_bound(width: int, height: int, side: int) -> None:
    """Beside Pillow's bicubic filter on the same square: a mean difference below half a level, and 12 at the worst."""
    picture = photograph(width, height)
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    square = picture.crop((left, top, left + short, top + short))
    expected = np.asarray(square.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(to_square(np.asarray(picture), side, "crop") - expected)
    assert difference.mean() < 0.5
    assert difference.max() <= 12


def test_what_has_the_right_size_is_left_alone() -> None:
    rgb = np.asarray(photograph(32, 32))
    assert all(np.array_equal(to_square(rgb, 32, how), rgb) for how in ("crop", "pad", "squash"))


@pytest.mark.parametrize(("width", "height"), [(1, 400), (400, 1), (3, 2)])
@pytest.mark.parametrize("how", ["crop", "pad", "squash"])
def test_extreme_shapes(width: int, height: int, how: str) -> None:
    assert to_square(np.full((height, width, 3), 9, np.uint8), 8, how).shape == (8, 8, 3)
