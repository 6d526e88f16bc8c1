"""What differs between the answers in a service's log and those that the model gave before, and the tests of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from review import claim, git
from review.drift import labels, service_log
from review.drift.homogeneity import DRAWS, Tested, chi_square, holm, kolmogorov_smirnov
from review.drift.service_log import Log
from review.lock import params_of
from review.registry import ARTIFACT
from review.report.answers import PREDICTIONS, read_answers
from review.report.facts import PER_CLASS, PREPARE
from review.revision import Missing, Revision
from review.seeds import require_val
from stages.common.errors import UserError
from stages.common.names import shortened
from stages.evaluate.intervals import Interval, wilson

# Of a confidence. What lies behind comes from rounding, and from another machine's arithmetic.
_DIGITS = 4
# What tests measure in χ²; the others, in D.
_UNITS = {"class shares": "χ²", "accuracy": "χ²"}
# Git's and this project's own ways to shorten a commit.
_COMMIT_DIGITS = (7, 12, 40)


@dataclass(frozen=True)
class Sample:
    """Answers of a model: places in the list of classes, the probabilities of these classes, and the widths and heights
    of the pictures, or why these are not known."""

    name: str
    labels: np.ndarray
    confidences: np.ndarray
    sizes: tuple[np.ndarray, np.ndarray] | str

    def __len__(self) -> int:
        return len(self.labels)


class Finding(NamedTuple):
    """A test of one thing: how far apart the samples are, in χ² or D, the p value, and the same after Holm's correction
    for all tests."""

    what: str
    unit: str
    distance: float
    p_value: float
    corrected: float


class Accuracy(NamedTuple):
    """The share of right answers among the labelled pictures of the log, and what the tag claims of the test images or
    why it claims nothing. `absent`: how many labels are of no picture in the log; `unknown`: how often the true class
    is one that the model does not have."""

    here: Interval
    images: int
    claimed: Interval | str
    claimed_images: int
    absent: int
    unknown: Counter[str]

    @property
    def counts(self) -> tuple[list[int], list[int]]:
        """How many are right and wrong, of the log's and of the claim's."""
        assert not isinstance(self.claimed, str)
        right = round(self.here.share * self.images), round(self.claimed.share * self.claimed_images)
        return [right[0], self.images - right[0]], [right[1], self.claimed_images - right[1]]


@dataclass(frozen=True)
class Drift:
    """A log beside its reference. `findings`: of each test that could be made; `level`: how often one or more of them
    find something by chance where nothing drifted."""

    revision: Revision
    classes: list[str]
    log: Log
    here: Sample
    reference: Sample
    accuracy: Accuracy | None
    findings: list[Finding]
    level: float

    @property
    def drifted(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.corrected < self.level]


def compare(
    revision: Revision,
    path: Path,
    *,
    level: float,
    version: str | None = None,
    reference: Path | None = None,
    labelled: Path | None = None,
) -> Drift:
    """Compare the log in `path` with an accepted log, `reference`, or else with the val images of `revision`, the
    release that the service runs. `version`: what the log calls it, if it is not by the names of its commit. UserError
    where a file is not what it should be, Missing where the revision lacks what is needed."""
    classes = class_names(revision)
    truth = labels.read(labelled) if labelled else {}
    names = {version} if version else names_of(revision)
    log = service_log.read(path, classes, names, truth.keys())
    before = of_log(service_log.read(reference, classes, names)) if reference else of_val_images(revision, classes)
    here = of_log(log)
    accuracy = accuracy_of(log, truth, revision, classes) if labelled else None
    tests = distances(here, before, len(classes))
    if accuracy and not isinstance(accuracy.claimed, str):
        tests["accuracy"] = chi_square(*accuracy.counts)
    corrected = holm([test.p_value for test in tests.values()])
    found = [
        Finding(what, _UNITS.get(what, "D"), test.distance, test.p_value, p)
        for (what, test), p in zip(tests.items(), corrected, strict=True)
    ]
    return Drift(revision, classes, log, here, before, accuracy, found, level)


def distances(here: Sample, before: Sample, classes: int, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Tested]:
    """The tests of what both samples have."""
    shares = [np.bincount(sample.labels, minlength=classes).tolist() for sample in (here, before)]
    confidences = [sample.confidences.round(_DIGITS) for sample in (here, before)]
    tests = {
        "class shares": chi_square(shares[0], shares[1], seed, draws),
        "confidence": kolmogorov_smirnov(confidences[0], confidences[1], seed, draws),
    }
    if not isinstance(here.sizes, str) and not isinstance(before.sizes, str):
        for what, one, other in zip(("width", "height"), here.sizes, before.sizes, strict=True):
            tests[what] = kolmogorov_smirnov(one, other, seed, draws)
    return tests


def class_names(revision: Revision) -> list[str]:
    """The classes of a revision's model, in the order of its tables. Raises Missing."""
    return [row["class"] for row in revision.table(PER_CLASS, ("class",))]


def names_of(revision: Revision) -> set[str]:
    """What a service may call the revision: the tags of its commit but those that promote it, also without the
    `classifier@` that names of images lack; and the commit, in full or by its first digits."""
    assert revision.commit is not None
    tags = [name for name in git.git("tag", "--points-at", revision.commit).split("\n") if name and "#" not in name]
    return {
        *tags,
        *(name.removeprefix(f"{ARTIFACT}@") for name in tags),
        *(revision.commit[:digits] for digits in _COMMIT_DIGITS),
    }


def of_log(log: Log) -> Sample:
    """The answers in a log."""
    return Sample(log.name, log.labels, log.confidences, (log.widths, log.heights))


def of_val_images(revision: Revision, classes: list[str]) -> Sample:
    """The revision's answers to its val images. Raises Missing."""
    remedy = "Compare with an accepted log of the service in its place: --reference LOG."
    require_val(revision)
    if params_of(revision.lock).get("tta_flip"):
        raise Missing(
            f"{PREDICTIONS}: not what a service answers in {revision}, which averages the answers to an image and its "
            f"mirror image (tta_flip: true). {remedy}"
        )
    answers = read_answers(revision)
    places = {label: place for place, label in enumerate(classes)}
    named = [answers.classes[label] for label in np.unique(answers.predicted).tolist()]
    if not named or not places.keys() >= set(named):
        raise Missing(f"{PREDICTIONS}: no answers, or of other classes than {PER_CLASS}, in {revision}. {remedy}")
    return Sample(
        f"{len(answers):,} val images",
        np.array([places.get(label, -1) for label in answers.classes], np.int64)[answers.predicted],
        answers.confidence,
        f"no file has the sizes of the val images. {_medians(revision)} `--reference LOG`, an accepted log, has sizes.",
    )


def _medians(revision: Revision) -> str:
    try:
        width, height = (revision.number(PREPARE, f"median_{side}") for side in ("width", "height"))
    except Missing as missing:
        return str(missing)
    return f"The medians of all images of the release are {width:g} and {height:g} pixels."


def accuracy_of(log: Log, truth: Mapping[str, str], revision: Revision, classes: list[str]) -> Accuracy:
    """The accuracy on the pictures of the log whose true class is known. UserError where there are none."""
    if not log.answers:
        raise UserError(
            f"labels: none of the {len(truth):,} ids is in {log.name}, such as {shortened(next(iter(truth)))}. "
            "Expected ids that the log has."
        )
    right = sum(truth[one] == answer for one, answer in log.answers.items())
    known = set(classes)
    return Accuracy(
        wilson(right, len(log.answers)),
        len(log.answers),
        *_claimed(revision),
        absent=len(truth) - len(log.answers),
        unknown=Counter(truth[one] for one in log.answers if truth[one] not in known),
    )


def _claimed(revision: Revision) -> tuple[Interval | str, int]:
    try:
        figures = claim.figures(revision)
        images = round(revision.number(claim.FIGURES, "images"))
    except Missing as missing:
        return str(missing), 0
    return Interval(*(figures[f"accuracy{end}"] for end in ("", "_low", "_high"))), images
