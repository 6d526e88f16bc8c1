"""Whether copies, strangers and odd pictures are found: `.venv/bin/python -m benchmarks.strangers`.

Into the photographs of ants and bees, pictures are planted: copies of four photographs of each kind, three pictures of
other things, each a kind of its own, and a photograph each that is blurred, dark, bright, tiny or narrow. They go
through prepare and `make look` with ImageNet weights of a small network. Printed is how many were found of n, and what
was found of the photographs themselves, by name: a look at them says which are false alarms.
"""

import argparse
import os
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks.cifar import ARCHIVE, run_stage, write_params
from benchmarks.photos import CPU, photos
from benchmarks.startup import ROOT
from review.data.features import Features, read
from review.data.findings import Findings
from review.data.look import look

_EACH = 4
_CIFAR = ("airplane", "automobile", "cat", "frog", "ship", "truck")
_WORDS = "lorem ipsum dolor sit amet consetetur sadipscing elitr".split()


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Cut shares of the sides off."""
    width, height = image.size
    return image.crop((int(width * left), int(height * top), int(width * (1 - right)), int(height * (1 - bottom))))


def next_of_burst(image: Image.Image) -> Image.Image:
    """The same scene a moment later: the camera moved and turned a little, and the light is another."""
    moved = image.rotate(3, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(cut(moved, 0.09, 0.05, 0.05, 0.07)).enhance(1.1)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 30": lambda image: image,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter by 30 %": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker by 30 %": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "mirrored": ImageOps.mirror,
    "cut by 5 % a side": lambda image: cut(image, 0.05, 0.05, 0.05, 0.05),
    "cut by 10 % a side": lambda image: cut(image, 0.1, 0.1, 0.1, 0.1),
    "cut by 12 % left and top": lambda image: cut(image, 0.12, 0.12, 0, 0),
    "next of a burst": next_of_burst,
    "grey": lambda image: image.convert("L").convert("RGB"),
}
ODD: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 60)),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.12),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(6),
    "tiny": lambda image: image.resize((64, 64)),
    "narrow": lambda image: image.resize((800, 160)),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers", description="Planted pictures.")
    parser.add_argument("--draws", type=int, default=8, help="times, with other photographs each (default: 8)")
    draws = parser.parse_args().draws
    planted, found = Counter[str](), Counter[str]()
    alarms: dict[str, Counter[str]] = {}
    for draw in range(draws):
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            count(look(features_of(Path(name), draw)), draw, planted, found, alarms)
            os.chdir(ROOT)
    for kind in planted:
        print(f"{kind}: {found[kind]} of {planted[kind]} found")
    for kind, names in alarms.items():
        print(f"{kind}, photographs as they are: {names.total() / draws:.1f} a draw: {dict(names.most_common(12))}")


def features_of(folder: Path, draw: int) -> Features:
    generator = np.random.default_rng(draw)
    weights = photos(folder)
    photographs = sorted((folder / "data").rglob("*.jpg"))
    plant_copies(photographs, generator)
    plant_strangers(folder / "data" / "train" / "ants", draw, generator)
    write_params(folder, CPU, weights=weights, on_corrupt="quarantine", on_near_duplicate="report")
    run_stage(folder, "prepare")
    run_stage(folder, "look")
    return read()


def plant_copies(photographs: list[Path], generator: np.random.Generator) -> None:
    """`planted-KIND-NAME` beside each of some photographs; odd ones, too."""
    for kind, change in {**COPIES, **ODD}.items():
        for place in generator.choice(len(photographs), _EACH if kind in COPIES else 1, replace=False).tolist():
            path = photographs[place]
            with Image.open(path) as picture:
                image = change(ImageOps.exif_transpose(picture).convert("RGB"))
            name = f"{prefix(kind)}{path.name}"
            image.save(path.with_name(name), quality=30 if kind.startswith("JPEG") else 90)


def prefix(kind: str) -> str:
    """Of the names of all planted pictures of a kind."""
    return f"{'planted' if kind in COPIES else 'odd'}-{kind.replace(' ', '_').replace('%', 'per_cent')}-"


STRANGERS = ("noise", "not-found", "letter", "error", "gradient", "chart", *(f"cifar-{name}" for name in _CIFAR))


def planted_in(draw: int) -> tuple[str, ...]:
    """Few, as pictures that are alike, such as blurred ones, have each other for neighbours."""
    return STRANGERS[draw % 4 :: 4]


def plant_strangers(folder: Path, draw: int, generator: np.random.Generator) -> None:
    """`stranger-KIND.png`: one of each kind of this draw."""
    pictures = {
        "noise": Image.fromarray(generator.integers(0, 256, (300, 400, 3), dtype=np.uint8)),
        "not-found": written(["image not found"], (400, 300), (240, 240, 240)),
        "letter": written([" ".join(generator.choice(_WORDS, 10)) for _ in range(30)], (600, 800), (255, 255, 255)),
        "error": written(["404", "This page does not exist."], (500, 500), (30, 60, 140)),
        "gradient": Image.linear_gradient("L").resize((400, 400)).convert("RGB"),
        "chart": chart(generator),
    }
    pictures |= {f"cifar-{name}": cifar(name) for name in _CIFAR}
    for kind in planted_in(draw):
        pictures[kind].save(folder / f"stranger-{kind}.png")


def written(lines: list[str], size: tuple[int, int], paper: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((30, 20 + 25 * number), line, fill=(255, 255, 255) if sum(paper) < 400 else (60, 60, 60))
    return picture


def chart(generator: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (600, 400), "white")
    draw = ImageDraw.Draw(picture)
    for place, height in enumerate(generator.integers(50, 350, 10).tolist()):
        draw.rectangle((40 + 50 * place, 380 - height, 75 + 50 * place, 380), fill=(40, 90, 200))
    draw.line((30, 20, 30, 380, 580, 380), fill=(0, 0, 0), width=2)
    return picture


def cifar(label: str) -> Image.Image:
    with tarfile.open(ARCHIVE) as tar:
        member = tar.extractfile(f"test/{label}/0007.jpg")
        assert member is not None
        return Image.open(member).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)


def count(
    found: Findings, draw: int, planted: Counter[str], hits: Counter[str], alarms: dict[str, Counter[str]]
) -> None:
    """Add how many pictures of each kind were planted and found, and the photographs that were found, by name."""
    pairs = [{Path(one.path).name for one in (pair.first, pair.second)} for pair in found.copies]
    copied = set().union(*pairs)
    strangers = {Path(one.picture.path).name for one in found.strangers}
    odd = {kind: {Path(one.picture.path).name for one in found.oddities if one.kind == kind} for kind in ODD}
    for kind in COPIES:
        planted[kind] += _EACH
        hits[kind] += sum(name.startswith(prefix(kind)) for name in copied)
    for kind in ODD:
        planted[kind] += 1
        hits[kind] += sum(name.startswith(prefix(kind)) for name in odd[kind])
        alarms.setdefault(kind, Counter()).update(name for name in odd[kind] if "-" not in name)
    for kind in planted_in(draw):
        planted[f"stranger: {kind}"] += 1
        hits[f"stranger: {kind}"] += f"stranger-{kind}.png" in strangers
    alarms.setdefault("strangers", Counter()).update(name for name in strangers if "-" not in name)
    others = [" ~ ".join(sorted(pair)) for pair in pairs if len({original(name) for name in pair}) == 2]
    alarms.setdefault("copies of two photographs", Counter()).update(others)


def original(name: str) -> str:
    """The photograph of which a picture is a copy, or its own name."""
    return name.split("-", 2)[2] if name.startswith(("planted-", "odd-")) else name


if __name__ == "__main__":
    main()
