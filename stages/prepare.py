"""STAGE 1: raw images → uint8 arrays, decoded, checked, de-duplicated and split. Reads data/, writes prepared/.

prepared/{train,val,test}-images.npy  uint8, N×H×W×C
prepared/{train,val,test}-labels.npy  int64, N; an index into the classes of dataset.json
prepared/dataset.json                 what the arrays are: classes, shape, normalisation, counts, digests
prepared/manifest.csv                 a row per raw image, sorted by path: path, class, split, sha256, status. The kept
                                      rows of a split stand in the order of its arrays
metrics/prepare.json                  counts
"""

import argparse
import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages import raw
from stages.errors import UserError, run_main
from stages.files import replacing_folder, write_json
from stages.params import PrepareParams, load

DATA = Path("data")
PREPARED = Path("prepared")
METRICS = Path("metrics/prepare.json")

# Only formats that hold photographs and drawings; Pillow would also open PDF or video-like containers.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# Only these fill the narrow pixel types without loss; deeper ones (16-bit, float) would have to be clipped.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_RESIZE: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BICUBIC),
    "pad": lambda image, size: ImageOps.pad(image, size, Image.Resampling.BICUBIC),
    "squash": lambda image, size: image.resize(size, Image.Resampling.BICUBIC),
}


@dataclass
class Row:
    """One raw image in the manifest. `status`: kept; duplicate (same pixels, same class, earlier path); or leaked (same
    pixels in an official split that decides more: test before val before train)."""

    image: raw.RawImage
    sha256: str
    split: str = ""
    status: str = "kept"


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.prepare",
        description="Stage 1: decode, check, de-duplicate and split data/ into prepared/.",
    ).parse_args()
    params = load(PrepareParams)
    data = raw.scan(DATA)
    print(
        f"prepare: {len(data.images)} files in {len(data.classes)} classes ({data.layout}); "
        f"{len(data.ignored)} ignored",
        flush=True,
    )
    with replacing_folder(PREPARED) as folder:
        rgb, rows = decode(data.images, params, folder / "decoded.npy")
        refuse_contradictions(rows)
        assign_splits(rows, data.official_splits, params)
        refuse_empty_classes(rows, data.classes)
        info = write_arrays(rgb, rows, data, folder)
        (folder / "decoded.npy").unlink()
        write_manifest(rows, folder / "manifest.csv")
        write_json(folder / "dataset.json", info)
    counts = info["counts"]
    statuses = Counter(row.status for row in rows)
    write_json(
        METRICS,
        {
            "files": len(data.images),
            "duplicates": statuses["duplicate"],
            "leaked": statuses["leaked"],
            "classes": len(data.classes),
            **{f"{split}_images": sum(counts[split].values()) for split in raw.SPLITS},
        },
    )
    for split in raw.SPLITS:
        total = sum(counts[split].values())
        print(
            f"  {split:5} {total:7} images ({total / statuses['kept']:.1%}), "
            f"{min(counts[split].values())} or more of each class"
        )
    print(
        f"  left out: {statuses['duplicate']} duplicates, "
        f"{statuses['leaked']} of train or val that val or test holds too"
    )


def decode(images: list[raw.RawImage], params: PrepareParams, path: Path) -> tuple[np.ndarray, list[Row]]:
    """Decode every image to RGB, hash its pixels, and write it resized into the array file `path` (uint8, N×S×S×3).

    Raises UserError that names every file which is not an image that can be read whole.
    """
    size = (params.image_size, params.image_size)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(images), *size, 3))
    rows = []
    problems = []
    for index, image in enumerate(images):
        try:
            picture = open_rgb(DATA / image.path)
        except UnidentifiedImageError:
            problems.append(f"  {image.path}: not {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}")
            continue
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            problems.append(f"  {image.path}: {error}")
            continue
        rows.append(Row(image, pixel_sha256(picture)))
        pixels[index] = picture if picture.size == size else _RESIZE[params.resize](picture, size)
    if problems:
        raise UserError(
            f"{DATA}/: {len(problems)} of {len(images)} files are not images that can be read. Repair or remove:\n"
            + "\n".join(problems)
        )
    return pixels, rows


def open_rgb(path: Path) -> Image.Image:
    """Decode an image the way a person sees it: the first frame, turned as EXIF says, transparent parts over white."""
    with Image.open(path, formats=_FORMATS) as picture:
        if picture.mode not in _MODES:
            raise ValueError(f"pixels of mode {picture.mode}; expected 8 bits per channel")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        background = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(background, upright)
    return upright.convert("RGB")


def pixel_sha256(picture: Image.Image) -> str:
    """The identity of an RGB image: its size and pixels, whatever its file name and format."""
    return hashlib.sha256(b"%d %d " % picture.size + picture.tobytes()).hexdigest()


def refuse_contradictions(rows: list[Row]) -> None:
    """Raise UserError where the same pixels stand under two classes: one of the labels is wrong."""
    by_pixels: dict[str, list[Row]] = {}
    for row in rows:
        by_pixels.setdefault(row.sha256, []).append(row)
    groups = [group for group in by_pixels.values() if len({row.image.label for row in group}) > 1]
    if groups:
        listed = "\n".join("  " + " = ".join(row.image.path for row in group) for group in groups)
        raise UserError(
            f"{DATA}/: {len(groups)} pictures stand under more than one class. Keep each under the right one:\n{listed}"
        )


def assign_splits(rows: list[Row], official_splits: tuple[str, ...], params: PrepareParams) -> None:
    """Fill in `split` and `status`.

    Where no official split decides, the split is a function of the image's pixels and `split_seed` alone: an image
    keeps it when others are added, removed or renamed, and the same pixels never stand in two splits.
    """
    for row in rows:
        row.split = row.image.split or "train"
        if row.split != "train":
            continue
        position = int(hashlib.sha256(f"{params.split_seed} {row.sha256}".encode()).hexdigest(), 16) / 2**256
        for split, fraction in (("test", params.test_fraction), ("val", params.val_fraction)):
            if split in official_splits:
                continue
            if position < fraction:
                row.split = split
                break
            position -= fraction

    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: -raw.SPLITS.index(row.split)):  # stable: by path within a split
        kept = first.setdefault(row.sha256, row)
        if kept is not row:
            row.status = "duplicate" if kept.split == row.split else "leaked"


def refuse_empty_classes(rows: list[Row], classes: list[str]) -> None:
    """Raise UserError where a class has no image in a split, naming every such class with its counts."""
    counts = _count(rows, classes)
    lines = [
        f"  {label}: " + ", ".join(f"{counts[split][label]} {split}" for split in raw.SPLITS)
        for label in classes
        if min(counts[split][label] for split in raw.SPLITS) == 0
    ]
    if lines:
        raise UserError(
            f"{DATA}/: {len(lines)} classes too small to split; every class needs an image in each split:\n"
            + "\n".join(lines)
            + "\n"
            "Add images of these classes, or change val_fraction, test_fraction or split_seed in params.yaml."
        )


def write_arrays(rgb: np.ndarray, rows: list[Row], data: raw.RawData, folder: Path) -> dict[str, Any]:
    """Write the splits' arrays into `folder` and return the content of dataset.json.

    Images are stored with one channel if all are grey, else with three. Mean and standard deviation are of the train
    split alone, per channel, on the scale 0 to 1; integer sums make them exact.
    """
    grey = all(
        np.array_equal(block[..., 0], block[..., 1]) and np.array_equal(block[..., 0], block[..., 2])
        for block in _blocks(rgb)
    )
    channels = 1 if grey else 3
    label_index = {label: index for index, label in enumerate(data.classes)}
    digests = {}
    histogram = np.zeros((channels, 256), np.int64)
    for split in raw.SPLITS:
        chosen = [index for index, row in enumerate(rows) if row.split == split and row.status == "kept"]
        images_file = folder / f"{split}-images.npy"
        images = np.lib.format.open_memmap(
            images_file, mode="w+", dtype=np.uint8, shape=(len(chosen), *rgb.shape[1:3], channels)
        )
        for start in range(0, len(chosen), 1024):
            block = rgb[chosen[start : start + 1024]][..., :channels]
            images[start : start + 1024] = block
            if split == "train":
                histogram += [np.bincount(block[..., channel].ravel(), minlength=256) for channel in range(channels)]
        images.flush()
        labels_file = folder / f"{split}-labels.npy"
        np.save(labels_file, np.array([label_index[rows[index].image.label] for index in chosen], np.int64))
        for file in (images_file, labels_file):
            with file.open("rb") as stream:
                digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    mean, std = _mean_and_std(histogram)
    return {
        "classes": data.classes,
        "channels": channels,
        "image_size": rgb.shape[1],
        "mean": mean,
        "std": std,
        "counts": _count(rows, data.classes),
        "sha256": digests,
    }


def write_manifest(rows: list[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "class", "split", "sha256", "status"])
        for row in rows:
            writer.writerow([row.image.path, row.image.label, row.split, row.sha256, row.status])


def _count(rows: list[Row], classes: list[str]) -> dict[str, dict[str, int]]:
    """Kept images per split and class."""
    counts = Counter((row.split, row.image.label) for row in rows if row.status == "kept")
    return {split: {label: counts[split, label] for label in classes} for split in raw.SPLITS}


def _mean_and_std(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Per channel, of values 0 to 255 counted in `histogram` (channels×256), on the scale 0 to 1."""
    values = np.arange(256) / 255
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    mean = weights @ values
    # A constant channel has no spread to divide by; 1/255, one grey level, keeps it finite.
    std = np.sqrt(np.maximum((weights * (values - mean[:, None]) ** 2).sum(axis=1), 1 / 255**2))
    return [round(float(x), 8) for x in mean], [round(float(x), 8) for x in std]


def _blocks(array: np.ndarray, length: int = 1024) -> Iterator[np.ndarray]:
    for start in range(0, len(array), length):
        yield array[start : start + length]


if __name__ == "__main__":
    run_main(main)
