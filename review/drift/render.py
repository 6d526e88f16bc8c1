"""What a comparison of a log means, in words and tables."""

from collections.abc import Iterator

import numpy as np

from review.document import Block, Document, Section, Strong, Table
from review.drift.facts import Accuracy, Drift
from review.rounding import interval, per_cent
from stages.common.names import shortened
from stages.evaluate.intervals import Interval

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CLASSES = 20
_FEW = 100


def document_of(drift: Drift) -> Document:
    """The report, verdict first."""
    sections = [
        Section("Tests", _tests(drift)),
        Section("Class shares", _class_shares(drift)),
        Section("Confidence", [_quantiles("confidence", drift.here.confidences, drift.reference.confidences)]),
        Section("Sizes of the pictures", _sizes(drift)),
    ]
    if drift.accuracy:
        sections.insert(1, Section("Accuracy", _accuracy(drift.accuracy)))
    title = f"{drift.log.name} ({len(drift.log):,} pictures, {drift.log.span}) against {drift.revision}"
    return Document(title, [_verdict(drift), *_left_out(drift)], sections)


def _verdict(drift: Drift) -> Strong:
    if drifted := drift.drifted:
        found = ", ".join(f"{finding.what} (p = {finding.corrected:.2g})" for finding in drifted)
        return Strong(f"Drift: {found}.", "bad")
    least = min(drift.findings, key=lambda finding: finding.corrected)
    return Strong(
        f"No drift found: {len(drift.findings)} tests on {len(drift.log):,} pictures, the smallest p is "
        f"{least.corrected:.2g} ({least.what}).",
        "good",
    )


def _left_out(drift: Drift) -> Iterator[Strong]:
    """What must not be overlooked beside the verdict."""
    if others := drift.log.others:
        versions = ", ".join(f"{shortened(name)} ({count:,})" for name, count in others.most_common(5))
        yield Strong(f"Left out: lines of other versions, {versions}.", "warn")
    if drift.log.broken:
        yield Strong(f"Left out: {drift.log.broken}.", "warn")
    if len(drift.here) < _FEW:
        yield Strong(f"Only {len(drift.here)} pictures: nothing but a large change would be found.", "warn")


def _tests(drift: Drift) -> list[Block]:
    rows = [
        [
            finding.what,
            f"{finding.unit} = {finding.distance:.3g}",
            f"{finding.p_value:.2g}",
            f"{finding.corrected:.2g}",
            "drift" if finding in drift.drifted else "not told from chance",
        ]
        for finding in drift.findings
    ]
    return [
        Table(["what", "distance", "p", "p, corrected", "verdict"], rows),
        f"{len(drift.here):,} pictures of the log against {drift.reference.name}. Permutation tests, mid-p: of "
        "Pearson's χ², and of Kolmogorov and Smirnov's D, the largest distance of the cumulative shares. After Holm's "
        f"correction, about {100 * drift.level:.3g} % at most of the reports call something drift where nothing is.",
    ]


def _class_shares(drift: Drift) -> list[Block]:
    here, before = (
        np.bincount(sample.labels, minlength=len(drift.classes)) / len(sample)
        for sample in (drift.here, drift.reference)
    )
    order = np.argsort(-np.abs(here - before), kind="stable").tolist()
    rows = [
        [
            drift.classes[place],
            f"{100 * before[place]:.1f} %",
            f"{100 * here[place]:.1f} %",
            f"{round(100 * (here[place] - before[place]), 1) + 0:+.1f} points",
        ]
        for place in order
    ]
    shown = "the classes whose shares differ most"
    return [Table(["class named", "reference", "log", "difference"], rows, shown, most=_CLASSES)]


def _quantiles(what: str, here: np.ndarray, before: np.ndarray | None) -> Table:
    sides = [("log", here)] if before is None else [("reference", before), ("log", here)]
    rows = [[name, *(f"{value:.4g}" for value in np.quantile(values, _QUANTILES))] for name, values in sides]
    return Table([what, *(f"{100 * quantile:.0f} % are below" for quantile in _QUANTILES)], rows)


def _sizes(drift: Drift) -> list[Block]:
    before = drift.reference.sizes
    widths, heights = (None, None) if isinstance(before, str) else before
    tables: list[Block] = [
        _quantiles("width", drift.log.widths, widths),
        _quantiles("height", drift.log.heights, heights),
    ]
    return [*tables, f"Not compared: {before}"] if isinstance(before, str) else tables


def _accuracy(accuracy: Accuracy) -> list[Block]:
    right = f"{_share(accuracy.here)} of {accuracy.images:,} labelled pictures of the log are right"
    if isinstance(accuracy.claimed, str):
        blocks: list[Block] = [f"{right}. Not compared with a claim: {accuracy.claimed}"]
    else:
        blocks = [f"{right}; the claim is {_share(accuracy.claimed)} of {accuracy.claimed_images:,} test images."]
    if accuracy.unknown:
        names = ", ".join(f"{name} ({count:,})" for name, count in accuracy.unknown.most_common(_CLASSES))
        blocks.append(f"Wrong, as the model has no such class: {names}.")
    if accuracy.absent:
        blocks.append(f"Labels that are of no picture in the log, and left out: {accuracy.absent:,}.")
    return blocks


def _share(share: Interval) -> str:
    return f"{per_cent(*share)} (Wilson, 95 % interval {interval(share.low, share.high)})"
