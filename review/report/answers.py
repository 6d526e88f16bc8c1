"""predictions.csv in columns: what the model said of each val image, and how sure it was."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from review.manifest import as_digests, binary, digits
from review.revision import Malformed, Revision
from stages.common import tables
from stages.evaluate.answers import NAMES, SHORT

PREDICTIONS = "predictions.csv"


class Answer(NamedTuple):
    """What the model said of a val image, and the probability that it gave to that."""

    sha256: str
    path: str
    actual: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Answers:
    """The answers to N images: the SHA-256 of their pixels, 32 bytes each; paths; the places in `classes` of their
    classes and of the predicted ones, int32; and the probabilities of these, float64."""

    digests: np.ndarray
    paths: list[str]
    actual: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    classes: list[str]

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> "Answers":
        """Put into columns. ValueError for what is no SHA-256 or no probability."""
        digests, paths, actual, predicted, confidence = bytearray(), [], array("i"), array("i"), array("d")
        classes: dict[str, int] = {}
        for sha256, path, label, answer, share in answers:
            digests += binary(sha256)
            paths.append(path)
            actual.append(classes.setdefault(label, len(classes)))
            predicted.append(classes.setdefault(answer, len(classes)))
            if not 0 <= share <= 1:
                raise ValueError(f"a probability of {share}")
            confidence.append(share)
        labels = [np.array(places, np.int32) for places in (actual, predicted)]
        return cls(as_digests(digests), paths, labels[0], labels[1], np.array(confidence, np.float64), [*classes])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Answer:
        return Answer(
            next(digits(self.digests[place : place + 1])),
            self.paths[place],
            self.classes[self.actual[place]],
            self.classes[self.predicted[place]],
            float(self.confidence[place]),
        )

    @cached_property
    def right(self) -> np.ndarray:
        """Of each image, bool N."""
        found: np.ndarray = self.actual == self.predicted
        return found

    def surest_of(self, label: str) -> Answer | None:
        """Of the images of a class that were named right, the one that the model was surest of; None where there is
        none."""
        places = np.flatnonzero(self.right & (self.predicted == self.classes.index(label)))
        return self[int(places[self.confidence[places].argmax()])] if len(places) else None

    def confusions(self) -> Counter[tuple[str, str]]:
        """How often each class was taken for which."""
        pairs, counts = np.unique(self.actual.astype(np.int64) * len(self.classes) + self.predicted, return_counts=True)
        named = ((self.classes[one], self.classes[other]) for one, other in map(self._pair, pairs.tolist()))
        return Counter(dict(zip(named, counts.tolist(), strict=True)))

    def _pair(self, pair: int) -> tuple[int, int]:
        return divmod(pair, len(self.classes))


def read_answers(revision: Revision) -> Answers:
    """predictions.csv, as its run wrote it. Raises Missing."""
    with revision.tracked_rows(PREDICTIONS, NAMES, recorded=True) as rows:
        try:
            return Answers.of(answers_in(rows))
        except (ValueError, KeyError) as error:
            if isinstance(error, tables.TableError):
                raise
            raise Malformed(f"{PREDICTIONS}: not what evaluate writes, in {revision} ({error}).") from None


def answers_in(rows: tables.Rows) -> Iterator[Answer]:
    """The rows of predictions.csv in either form: with the probability of each class, or of the most probable ones."""
    places = {name: place for place, name in enumerate(rows.columns)}
    known = places["p_predicted"] if set(SHORT) <= places.keys() else None
    first = itemgetter(*(places[name] for name in NAMES))
    for values in rows.values():
        sha256, path, actual, predicted = first(values)
        confidence = values[places[f"p_{predicted}"] if known is None else known]
        yield Answer(sha256, path, actual, predicted, float(confidence))
