"""What tables of many rows and classes cost: `.venv/bin/python -m benchmarks.tables [predictions] [read] [manifest]
[figures] [--images N…] [--classes N]`.

predictions   evaluate's predictions.csv of made-up scores: seconds, bytes
read          the review's reading of it
manifest      the review's comparison of two manifests, of which the second has one image in a hundred relabelled
figures       evaluate's figures, tables and confusion.png of made-up logits, which are drawn part by part

Each in a process of its own; CPU seconds, peak memory above that of the imports, and between the smallest and the
largest number of images the exponent of growth.
"""

import argparse
import hashlib
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from stages.common import tables

_PART_VALUES = 1 << 21


class Meter:
    """CPU seconds and memory of what runs within `measured`, and bytes of what it wrote."""

    seconds = 0.0
    peak = 0.0
    size = 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        before, started = _peak(), time.process_time()
        yield
        self.seconds, self.peak = time.process_time() - started, _peak() - before


def main() -> None:
    parts: dict[str, Callable[[int, int, Meter], None]] = {
        "predictions": predictions,
        "read": read,
        "manifest": manifest,
        "figures": figures,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="What large tables cost.")
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help=f"which of {', '.join(parts)} (default: all)")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000], help="numbers of images")
    parser.add_argument("--classes", type=int, default=1000, help="number of classes (default: 1000)")
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        seconds = []
        for images in arguments.images:
            meter = _alone(parts[name], images, arguments.classes)
            seconds.append(meter.seconds)
            size = f", {meter.size / 1e6:.1f} MB" if meter.size else ""
            print(
                f"{name}: {images:,} images, {arguments.classes:,} classes: {meter.seconds:.2f} CPU s, "
                f"{meter.peak:.0f} MB{size}",
                flush=True,
            )
        if len(seconds) > 1:
            growth = math.log(seconds[-1] / seconds[0]) / math.log(arguments.images[-1] / arguments.images[0])
            print(f"{name}: grows with the power {growth:.2f}", flush=True)


def _alone(part: Callable[[int, int, Meter], None], images: int, classes: int) -> Meter:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_run, args=(part, images, classes, theirs))
    process.start()
    theirs.close()
    meter: Meter = mine.recv()
    process.join()
    return meter


def _run(part: Callable[[int, int, Meter], None], images: int, classes: int, answer: Connection) -> None:
    meter = Meter()
    part(images, classes, meter)
    answer.send(meter)


def _elsewhere(write: Callable[..., None], *arguments: object) -> None:
    """In a process whose memory does not count."""
    process = multiprocessing.get_context("spawn").Process(target=write, args=arguments)
    process.start()
    process.join()


def _peak() -> float:
    """MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _names(classes: int) -> list[str]:
    return [f"n{number:08}" for number in range(classes)]


def _digests(images: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(images)]


def _write_predictions(images: int, classes: int, path: Path, meter: Meter) -> None:
    from stages.evaluate import answers
    from stages.evaluate.scores import score

    labels = np.arange(images) % classes
    scores = score(_logits(images, classes), labels, keep_all=classes <= answers.MOST_PROBABILITIES)
    names = _names(classes)
    digests = _digests(images)
    with meter.measured():
        rows = zip(digests, labels.tolist(), answers.values(scores, names), strict=True)
        tables.write(
            path,
            answers.columns(names),
            (
                [digest, f"val/{names[label]}/{digest[:20]}.jpeg", names[label], *values]
                for digest, label, values in rows
            ),
        )
    meter.size = path.stat().st_size


def _logits(images: int, classes: int) -> Iterator[np.ndarray]:
    """The same few rows again and again: to draw others takes longer than all figures of them."""
    drawn = np.random.default_rng(0).normal(0, 3, (max(1, _PART_VALUES // classes), classes))
    for start in range(0, images, len(drawn)):
        yield drawn[: images - start]


def predictions(images: int, classes: int, meter: Meter) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write_predictions(images, classes, Path(folder, "predictions.csv"), meter)


def read(images: int, classes: int, meter: Meter) -> None:
    from review.report.answers import Answers, answers_in

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predictions.csv")
        _elsewhere(_write_predictions, images, classes, path, Meter())
        with meter.measured(), path.open(encoding="utf-8", newline="") as stream:
            Answers.of(answers_in(tables.Rows(stream)))


def manifest(images: int, classes: int, meter: Meter) -> None:
    from review.data_changes import compare_manifests
    from review.manifest import Manifest

    names = _names(classes)

    @contextmanager
    def rows(shift: int) -> Iterator[Iterator[list[str]]]:
        with Path(folder, f"{shift}.csv").open(encoding="utf-8", newline="") as stream:
            yield (values[:5] for values in tables.Rows(stream).values())

    with tempfile.TemporaryDirectory() as folder:
        for shift in (0, 1):
            _elsewhere(_write_manifest, images, names, shift, Path(folder, f"{shift}.csv"))
        with meter.measured():
            changes = compare_manifests(Manifest.read(lambda: rows(0)), Manifest.read(lambda: rows(1)))
        assert len(changes.images) == -(-images // 100)


def _write_manifest(images: int, names: list[str], shift: int, path: Path) -> None:
    tables.write(
        path,
        ["path", "class", "split", "sha256", "status", "group", "note"],
        (
            [
                f"train/{number:08}.jpeg",
                names[(number + shift * (number % 100 == 0)) % len(names)],
                "train",
                hashlib.sha256(str(number).encode()).hexdigest(),
                "kept",
                "",
                "",
            ]
            for number in range(images)
        ),
    )


def figures(images: int, classes: int, meter: Meter) -> None:
    from stages.evaluate.figures import draw_confusion
    from stages.evaluate.metrics import Confusions, measure
    from stages.evaluate.scores import score

    labels = np.arange(images) % classes
    with tempfile.TemporaryDirectory() as folder, meter.measured():
        scores = score(_logits(images, classes), labels)
        measure(scores, labels, classes)
        confusions = Confusions.of(labels, scores.predicted, classes)
        confusions.per_class()
        draw_confusion(confusions, _names(classes), Path(folder, "confusion.png"))


if __name__ == "__main__":
    main()
