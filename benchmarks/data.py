"""Whether a look at the data keeps its promises: `.venv/bin/python -m benchmarks.data PART [FOLDER ...]`.

A FOLDER holds features.npy, images.csv and about.json, as `make look` leaves them in .dvc/tmp/look/, and manifest.csv.

slices    answers that depend on nothing: how often a slice is called worse, 5 % at most being the promise; a slice that
          is worse by a stated share: how often it is found, beside what theory says of the one test, the normal
          approximation with Bonferroni's correction
forecast  FOLDER: from n images, accuracy with twice as many to learn from, forecast and measured, of several draws
order     FOLDER: accuracy after labelling the images that the order names first, and as many by chance
seconds   of CPU time, one thread, and the peak of memory, without features, which are drawn by chance
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.labels import Data, load, percent_points
from review.data import learning
from review.data.features import Features, Image
from review.data.findings import Point
from review.data.look import look
from review.data.order import labelling_order
from review.data.probabilities import answers
from review.data.slices import groups_of, tested
from review.data.threads import one_thread
from review.significance import LEVEL

SIZES = ((400, 2), (10_000, 10), (50_000, 10), (20_000, 1_000))
_WIDTH = 1_280


def main() -> None:
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "slices": print_slices,
        "forecast": print_forecasts,
        "order": print_order,
        "seconds": print_seconds,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description="Promises of a look at the data.")
    parser.add_argument("part", choices=parts)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of features, as .dvc/tmp/look/")
    parser.add_argument("--simulations", type=int, default=1_000, help="of slices, of each kind (default: 1000)")
    parser.add_argument("--draws", type=int, default=10, help="of forecast and order (default: 10)")
    arguments = parser.parse_args()
    with one_thread():
        parts[arguments.part](arguments)


def print_slices(arguments: argparse.Namespace) -> None:
    number = arguments.simulations
    for images, accuracy in ((400, 0.95), (1_000, 0.8), (5_000, 0.9)):
        share = false_alarms(number, images, accuracy, np.random.default_rng(0))
        print(
            f"null:  {images:,} images, {accuracy:.0%} right: {share:.1%} of {number:,} call a slice worse", flush=True
        )
    for images, accuracy, lower in ((1_000, 0.9, 0.1), (10_000, 0.9, 0.1), (10_000, 0.9, 0.15), (1_000, 0.9, 0.2)):
        found = power(number, images, 100, accuracy, lower, np.random.default_rng(0))
        print(
            f"power: {images:,} images, {accuracy:.0%} right, a slice of 100 {100 * lower:.0f} points worse: found "
            f"{found:.1%}; theory {theory(images, 100, accuracy, lower):.1%}",
            flush=True,
        )


def false_alarms(simulations: int, images: int, accuracy: float, generator: np.random.Generator) -> float:
    """The share of data sets in which a slice is called worse though answers depend on nothing."""
    alarms = 0
    for _ in range(simulations):
        groups = list(groups_of(imagined(images, generator)))
        alarms += any(one.p_value < LEVEL for one in tested(groups, generator.random(images) < accuracy))
    return alarms / simulations


def power(
    simulations: int, images: int, of_slice: int, accuracy: float, lower: float, generator: np.random.Generator
) -> float:
    """How often the slice of one camera is called worse, of which the accuracy is lower."""
    hits = 0
    for _ in range(simulations):
        rows = [
            row._replace(camera="old" if place < of_slice else "new")
            for place, row in enumerate(imagined(images, generator))
        ]
        right = generator.random(images) < np.where(np.arange(images) < of_slice, accuracy - lower, accuracy)
        found = [one for one in tested(list(groups_of(rows)), right) if one.p_value < LEVEL]
        hits += any((one.group.by, one.group.value) == ("camera", "old") for one in found)
    return hits / simulations


def theory(images: int, of_slice: int, accuracy: float, lower: float) -> float:
    tests = len(tested(list(groups_of(imagined(images, np.random.default_rng(0)))), np.ones(images, bool)))
    rest = images - of_slice
    pooled = accuracy - lower * of_slice / images
    null = (pooled * (1 - pooled) * (1 / of_slice + 1 / rest)) ** 0.5
    worse = accuracy - lower
    spread = (worse * (1 - worse) / of_slice + accuracy * (1 - accuracy) / rest) ** 0.5
    return NormalDist().cdf((lower - NormalDist().inv_cdf(1 - LEVEL / tests) * null) / spread)


def imagined(images: int, generator: np.random.Generator) -> list[Image]:
    """Images of ten classes, from five folders and two cameras, taken over a year."""
    labels, folders, cameras, days = (generator.integers(0, most, images).tolist() for most in (10, 5, 2, 365))
    sides = generator.choice([240, 480, 720, 1080], images).tolist()
    light = generator.uniform(30, 220, (images, 3)).round(1).tolist()
    return [
        Image(
            split="train",
            path=f"{folder}/{row}.jpg",
            label=f"{label}",
            sha256=f"{row:064x}",
            group="",
            width=side,
            height=side * (3 + row % 3) // 4,
            brightness=brightness,
            contrast=contrast,
            sharpness=10 * sharpness,
            plain=0.1,
            taken=str(np.datetime64("2024-01-01") + day),
            camera=f"camera {camera}",
        )
        for row, (folder, label, side, day, camera, (brightness, contrast, sharpness)) in enumerate(
            zip(folders, labels, sides, days, cameras, light, strict=True)
        )
    ]


def print_forecasts(arguments: argparse.Namespace) -> None:
    for folder in arguments.folders:
        data = load(folder)
        images = 1_000
        while images * 2 <= len(data.labels) * 4 // 5:
            draws = [forecast(data, images, draw) for draw in range(arguments.draws)]
            errors = np.array([said.accuracy - measured for said, measured in draws])
            inside = sum(said.low <= measured <= said.high for said, measured in draws)
            width = float(np.mean([said.high - said.low for said, _ in draws]))
            print(
                f"{folder.name}: from {images:,} images to {draws[0][0].images:,} to learn from: forecast - "
                f"measured {percent_points(errors)}, the largest {100 * np.abs(errors).max():.1f}; {inside} of "
                f"{len(draws)} within the interval, {100 * width:.1f} points wide",
                flush=True,
            )
            images *= 2


def forecast(data: Data, images: int, draw: int) -> tuple[Point, float]:
    """The forecast from images drawn by chance, and the accuracy, on all others, of what learned so many."""
    order = np.random.default_rng(draw).permutation(len(data.labels))
    some = order[:images]
    measured = learning.measure(data.vectors[some], data.labels[some], [""] * images)
    said = learning.curve(measured, data.labels[some]).forecast
    assert said is not None
    known, asked = order[: said.images], order[said.images :]
    answer = answers(data.vectors[known], data.labels[known], data.vectors[asked], len(data.classes)).argmax(1)
    return said, float((answer == data.labels[asked]).mean())


def print_order(arguments: argparse.Namespace) -> None:
    for folder in arguments.folders:
        data = load(folder)
        classes = len(data.classes)
        for first in (5 * classes, 10 * classes):
            gains: dict[int, list[tuple[float, float]]] = {}
            for draw in range(arguments.draws):
                generator = np.random.default_rng(draw)
                order = generator.permutation(len(data.labels))
                test, labelled, pool = np.split(order, [len(order) // 5, len(order) // 5 + first])
                most = min(8 * first, len(pool) // 2)
                useful = labelling_order(data.vectors[labelled], data.labels[labelled], data.vectors[pool], most)
                by_order = pool[[one.row for one in useful]]
                for count in (first, 2 * first, 4 * first, 8 * first):
                    if count > most:
                        continue
                    both = []
                    for chosen in (by_order[:count], pool[:count]):
                        known = np.concatenate([labelled, chosen])
                        says = answers(data.vectors[known], data.labels[known], data.vectors[test], classes)
                        both.append(float((says.argmax(1) == data.labels[test]).mean()))
                    gains.setdefault(count, []).append((both[0], both[1]))
            for count, pairs in gains.items():
                ordered, random = np.array(pairs).T
                print(
                    f"{folder.name}: {first} labelled and {count} more: {ordered.mean():.1%} by order, "
                    f"{random.mean():.1%} by chance; {percent_points(ordered - random)}",
                    flush=True,
                )


def print_seconds(_: argparse.Namespace) -> None:
    # A process each, as the peak of memory is that of a process.
    context = multiprocessing.get_context("spawn")
    for images, classes in SIZES:
        with context.Pool(1) as pool:
            print(pool.apply(partial(timed, images, classes)), flush=True)


def timed(images: int, classes: int) -> str:
    """Seconds by part, as `look` tells of them."""
    generator = np.random.default_rng(0)
    # Of which a few dimensions tell classes apart, and not well; all others are noise.
    labels = generator.integers(0, classes, images)
    centres = generator.standard_normal((classes, 64)).astype(np.float32)
    features = generator.standard_normal((images, _WIDTH), dtype=np.float32)
    features[:, :64] += centres[labels] * (0.5 if classes <= 10 else 1.5)
    rows = [
        row._replace(label=f"{label}") for row, label in zip(imagined(images, generator), labels.tolist(), strict=True)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marks: list[tuple[str, float]] = []
    start = time.process_time()
    found = look(
        Features(rows, np.maximum(features, 0), {"features_of": "chance", "own_model": False}),
        tell=lambda what: marks.append((what, time.process_time())),
    )
    end = time.process_time()
    ends = [when for _, when in marks[1:]] + [end]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = {what: round(after - when, 1) for (what, when), after in zip(marks, ends, strict=True)}
    return (
        f"{images:,} images of {classes:,} classes: {end - start:.1f} s of CPU time, {json.dumps(parts)}; "
        f"{peak / 2**20:.2f} GiB at most, of which {before / 2**20:.2f} before; {len(found.suspects):,} suspects"
    )


if __name__ == "__main__":
    main()
