"""The summary of prepare: sizes, classes, and warnings of what may harm a result."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.prepare import __main__ as prepare
from stages.prepare.sizes import measure_sizes
from stages.prepare.summary import class_table, class_warnings, size_warnings
from tests.project import write_images


def test_sizes_are_of_the_images_as_people_see_them(workspace: Path) -> None:
    """Sizes by area, after rotation as EXIF says; the summary and the metrics agree."""
    write_images(workspace / "data", {"cat": 30, "dog": 30}, side=20)
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    for number in range(70):
        pixels = generator.integers(0, 256, (24, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(f"data/cat/turned-{number}.jpg", exif=exif)
    prepare.main()
    summary = Path("prepared/summary.txt").read_text()
    assert "  size: 24×48 pixels (median; 20×20 to 24×48)\n" in summary
    assert "  aspect ratio: 0.50 (median; 0.50 to 1.00)\n" in summary
    assert (
        "  warning: `resize: crop` cuts more than 40% off 53.8% of the images; `pad` and `squash` cut nothing"
        in summary
    )
    assert "shrunk" not in summary
    metrics = json.loads(Path("metrics/prepare.json").read_text())
    assert (metrics["median_width"], metrics["median_height"]) == (24, 48)
    assert (metrics["smallest_class"], metrics["largest_class"]) == (30, 100)


@pytest.mark.parametrize(
    ("images", "side", "resize", "expected"),
    [
        ([(64, 64, 9)], 16, "crop", []),
        ([(66, 90, 9)], 16, "crop", ["the median image is shrunk 4.1-fold to 16"]),
        ([(20, 80, 9)], 16, "pad", ["the median image is shrunk 5.0-fold to 16"]),
        ([(20, 20, 8), (10, 20, 2)], 16, "squash", ["20.0% of the images are smaller than 16 pixels"]),
        ([(160, 90, 1), (80, 80, 19)], 80, "crop", []),
        ([(160, 90, 2), (80, 80, 18)], 80, "crop", ["`resize: crop` cuts more than 40% off 10.0% of the images"]),
    ],
)
def test_warnings_of_sizes(images: list[tuple[int, int, int]], side: int, resize: str, expected: list[str]) -> None:
    found = size_warnings(measure_sizes(images, side, resize), side, resize)
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected


def test_classes_that_are_few_or_unequal() -> None:
    counts = {
        "train": {"a": 200, "b": 19, "c": 20},
        "val": {"a": 1, "b": 1, "c": 1},
        "test": {"a": 5, "b": 5, "c": 4},
    }
    assert class_warnings(counts) == [
        "1 classes have fewer than 20 train images: b (19)",
        "1 classes have fewer than 5 test images: c (4)",
        "a has 11 times as many train images as b",
    ]


def test_the_table_of_many_classes_is_folded() -> None:
    """To the five largest and the five smallest."""
    labels = [f"class {number:03}" for number in range(300)]
    counts = {split: {label: number for number, label in enumerate(labels)} for split in ("train", "val", "test")}
    table = class_table(counts)
    assert len(table) == 12
    assert table[1].split() == ["class", "299", "299", "299", "299"]
    assert table[6] == "… and 290 more"
    assert table[-1].split() == ["class", "000", "0", "0", "0"]
