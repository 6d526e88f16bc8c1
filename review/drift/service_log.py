"""The log of a service: a line of JSON for each picture that it answered.

    {"time": "2026-05-01T12:00:00Z", "id": "…", "class": "cat", "confidence": 0.98, "width": 640, "height": 480,
     "version": "v1.0", …}

It is somebody else's file. These keys are read and checked, and a line may have others.
"""

import os
import stat
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from stages.common.documents import DocumentError, parse_json
from stages.common.errors import UserError
from stages.common.names import shortened

KEYS = ("time", "id", "class", "confidence", "width", "height", "version")
_MOST_LINES = 5_000_000
_MOST_LINE_BYTES = 64 << 10
# Class names have 255 bytes at most.
_MOST_CHARACTERS = 255
# A side that no decoder takes.
_MOST_SIDE = 1_000_000


@dataclass(frozen=True)
class Log:
    """The answers of one version of a model, in the order of the log: places in the list of classes, int64; the
    probabilities of the classes, float64; and the sizes of the pictures, int64. `answers`: the class by the id of the
    pictures that were asked for. `others`: how many lines are of which other versions. `broken`: why the last line was
    left out; empty where it was not."""

    name: str
    labels: np.ndarray
    confidences: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    first: datetime
    last: datetime
    answers: dict[str, str]
    others: Counter[str] = field(default_factory=Counter)
    broken: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def span(self) -> str:
        """From when to when, in words."""
        return f"{self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M} UTC"


def read(path: Path, classes: Collection[str], versions: Collection[str], wanted: Collection[str] = frozenset()) -> Log:
    """The lines of a log that are of one of `versions`, names of the same model. `wanted`: the ids whose classes are
    kept. UserError for what is no such log, or names a class that is not in `classes`; only a last line may be broken
    off, as a service leaves it that is killed or still writes."""
    places = {label: place for place, label in enumerate(classes)}
    numbers = {name: array("q") for name in ("labels", "widths", "heights")}
    confidences = array("d")
    others: Counter[str] = Counter()
    answers: dict[str, str] = {}
    first, last = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    broken = ""
    with _open(path) as stream:
        for number, line in _lines(stream, path):
            try:
                parsed = parse_json(line)
            except DocumentError as error:
                if line.endswith(b"\n"):
                    raise _refusal(path, number, f"not JSON ({error})") from None
                broken = f"line {number}, the last one, is broken off"
                continue
            try:
                entry = _entry(parsed)
                if entry.version not in versions:
                    others[entry.version] += 1
                    continue
                numbers["labels"].append(_place(entry.label, places))
            except ValueError as error:
                raise _refusal(path, number, str(error)) from None
            numbers["widths"].append(entry.width)
            numbers["heights"].append(entry.height)
            confidences.append(entry.confidence)
            first, last = min(first, entry.time), max(last, entry.time)
            if entry.id in wanted:
                # A client that asks again may send the id again.
                if answers.get(entry.id, entry.label) != entry.label:
                    raise UserError(
                        f"{path}: line {number}: id {shortened(entry.id)!r} has another class in an earlier line, and "
                        "its label is of one of the two pictures. Remove the label."
                    )
                answers[entry.id] = entry.label
    if not confidences:
        found = ", ".join(f"{shortened(name)} ({count:,} lines)" for name, count in others.most_common(5))
        raise UserError(
            f"{path}: no answer of version {', '.join(sorted(versions))}; got {found or broken or 'an empty file'}. "
            "Name the log of the service that runs this version, or the tag that it runs; or say by --version what the "
            "log calls it."
        )
    arrays = {name: np.array(values, np.int64) for name, values in numbers.items()}
    return Log(
        path.name,
        confidences=np.array(confidences, np.float64),
        first=first,
        last=last,
        answers=answers,
        others=others,
        broken=broken,
        **arrays,
    )


def _refusal(path: Path, number: int, reason: str) -> UserError:
    return UserError(
        f"{path}: line {number}: {reason}. Expected the log of the service, a JSON object in each line with "
        f"{', '.join(KEYS)}. Remove the line, or name another file."
    )


def _open(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file. Name the file that the service writes its log to.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: expected a file, got a folder or a device. Name the file of the service's log.")
    return os.fdopen(descriptor, "rb")


def _lines(stream: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and content of each line that is not empty. UserError where there are more, or longer ones, than
    a log has."""
    number = 0
    while line := stream.readline(_MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > _MOST_LINE_BYTES:
            raise UserError(
                f"{path}: line {number} has more than {_MOST_LINE_BYTES:,} bytes, as no line of the service's log. "
                "Name another file."
            )
        if number > _MOST_LINES:
            raise UserError(
                f"{path}: more than {_MOST_LINES:,} lines. Look at a part of them: `split --lines={_MOST_LINES}` "
                "makes parts."
            )
        if line.strip():
            yield number, line


class _Entry(NamedTuple):
    time: datetime
    id: str
    label: str
    confidence: float
    width: int
    height: int
    version: str


def _entry(parsed: Any) -> _Entry:
    """What is read of a line. Raises ValueError."""
    if not isinstance(parsed, dict):
        raise ValueError(f"not an object, but {type(parsed).__name__}")
    if absent := [key for key in KEYS if key not in parsed]:
        raise ValueError(f"no {', '.join(absent)}")
    for key in ("id", "class", "version"):
        if not isinstance(parsed[key], str) or not 0 < len(parsed[key]) <= _MOST_CHARACTERS:
            raise ValueError(f"{key}: expected a text of 1 to {_MOST_CHARACTERS} characters, got {_shown(parsed[key])}")
    for key in ("width", "height"):
        if type(parsed[key]) is not int or not 0 < parsed[key] <= _MOST_SIDE:
            raise ValueError(f"{key}: expected a number of pixels, got {_shown(parsed[key])}")
    if type(parsed["confidence"]) not in (int, float) or not 0 <= parsed["confidence"] <= 1:
        raise ValueError(f"confidence: expected a probability, got {_shown(parsed['confidence'])}")
    return _Entry(_time(parsed["time"]), *(parsed[key] for key in KEYS[1:]))


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        time = datetime.min
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"time: expected one such as 2026-05-01T12:00:00Z, got {_shown(value)}")
    return time


def _place(label: str, places: dict[str, int]) -> int:
    if label not in places:
        raise ValueError(f"class: expected one of the model's ({', '.join([*places][:10])}), got {_shown(label)}")
    return places[label]


def _shown(value: Any) -> str:
    return shortened(repr(value))
