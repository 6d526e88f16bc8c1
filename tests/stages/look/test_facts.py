"""What one picture is like: against figures that can be told by hand; EXIF as strangers write it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from stages.look.facts import measure

DATE, IFD, MAKE, MODEL = 0x9003, 0x8769, 0x010F, 0x0110


def grey(values: list[list[int]]) -> np.ndarray:
    return np.repeat(np.array(values, np.uint8)[..., None], 3, axis=2)


def test_light() -> None:
    facts = measure(grey([[0, 0, 0], [0, 0, 200], [0, 0, 200], [100, 100, 200]]))
    assert (facts.width, facts.height) == (3, 4)
    values = [0] * 7 + [100] * 2 + [200] * 3
    assert facts.brightness == pytest.approx(np.mean(values), abs=0.005)
    assert facts.contrast == pytest.approx(np.std(values), abs=0.005)
    assert facts.plain == pytest.approx(7 / 12, abs=0.0001)


def test_sharpness_to_the_definition() -> None:
    """The variance of the Laplacian in the 2×1 pixels that have four neighbours: of 10 - 40 = -30, and 60."""
    facts = measure(grey([[0, 10, 20, 0], [0, 10, 0, 30], [0, 0, 10, 0]]))
    assert facts.sharpness == pytest.approx(np.var([10 + 0 + 0 + 0 - 40, 20 + 10 + 10 + 30 - 0]), abs=0.005)
    assert measure(grey([[0, 255]] * 9)).sharpness == 0


def test_sharpness_does_not_depend_on_size() -> None:
    """The same picture in four times the size; while the one that is blurred as much has far less."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((1200, 1200), Image.Resampling.BICUBIC)
    small = large.resize((300, 300), Image.Resampling.BOX)
    sharp, same, blurred = (
        measure(np.asarray(picture)).sharpness for picture in (large, small, large.filter(ImageFilter.GaussianBlur(20)))
    )
    assert same == pytest.approx(sharp, rel=0.4)
    assert blurred < sharp / 10


def with_exif(form: str, **tags: object) -> bytes:
    exif = Image.Exif()
    for tag, name in ((MAKE, "make"), (MODEL, "model")):
        if name in tags:
            exif[tag] = tags[name]
    if "date" in tags:
        exif.get_ifd(IFD)[DATE] = tags["date"]
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, form, exif=exif.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif(form: str) -> None:
    facts = measure(grey([[0]]), with_exif(form, make="Canon", model="Canon EOS 5D", date="2024:05:01 12:00:00"))
    assert (facts.taken, facts.camera) == ("2024-05-01", "Canon EOS 5D")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, ("", "")),
        ({"make": "SONY", "model": "DSC-F828"}, ("", "SONY DSC-F828")),
        ({"make": "SONY"}, ("", "SONY")),
        ({"make": " \x00 ", "model": "X\x1b[31m\n1@00A"}, ("", "X [31m 1 00A")),
        ({"model": "x" * 200}, ("", "x" * 60)),
        ({"make": "M", "date": "0000:00:00 00:00:00"}, ("", "M")),
        ({"make": "M", "date": "2024:13:01 00:00:00"}, ("", "M")),
        ({"make": "M", "date": "yesterday"}, ("", "M")),
        ({"make": "M", "date": "2024:02:29"}, ("2024-02-29", "M")),
    ],
)
def test_exif_as_strangers_write_it(tags: dict[str, str], expected: tuple[str, str]) -> None:
    # U+0085, which ends a line for some; Pillow writes ASCII alone.
    facts = measure(grey([[0]]), with_exif("JPEG", **tags).replace(b"@", b"\x85"))
    assert (facts.taken, facts.camera) == expected


def test_damaged_exif() -> None:
    """Cut off anywhere, or with a byte that is another: no picture is refused for it, and what is read is plain."""
    whole = with_exif("JPEG", make="Canon", model="EOS", date="2024:05:01 12:00:00")
    start = whole.index(b"Exif")
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[start + int(generator.integers(6, 120))] = int(generator.integers(256))
        facts = measure(grey([[0]]), bytes(damaged))
        assert facts.taken == "" or facts.taken[4] == "-"
        assert facts.camera.isprintable()
    assert all(measure(grey([[0]]), whole[:length]).width == 1 for length in range(start, start + 100, 7))
