"""The findings at a terminal: the most important of each part, a line each."""

from collections import Counter
from collections.abc import Iterator

from review.data.figures import expected
from review.data.findings import Findings
from review.rounding import interval, per_cent
from stages.common.names import shortened

_SHOWN = 3


def lines(findings: Findings) -> Iterator[tuple[str, str]]:
    """A name and what is said, for each part, then the remarks."""
    yield "suspected labels", _suspects(findings)
    yield "do not belong", _strangers(findings)
    yield "copies", _copies(findings)
    yield "unusual pictures", _oddities(findings)
    yield from _slices(findings)
    yield "more images", expected(findings.curve)
    if findings.wanted:
        yield (
            "collect first",
            "; ".join(
                f"{shortened(one.label)} (recall {100 * one.recall:.0f} % with {one.images:,} images"
                + ("" if one.expected is None else f", {100 * one.expected:.0f} % expected of twice as many")
                + ")"
                for one in findings.wanted[:_SHOWN]
            ),
        )
    for remark in findings.remarks:
        yield "note", remark


def _suspects(findings: Findings) -> str:
    if not findings.suspects:
        return "none"
    pairs = Counter((one.picture.label, one.suggested) for one in findings.suspects).most_common(_SHOWN)
    often = ", ".join(f"{shortened(given)} → {shortened(other)} ({count:,})" for (given, other), count in pairs)
    return f"{len(findings.suspects):,}, most often {often}"


def _strangers(findings: Findings) -> str:
    if not findings.strangers:
        return "none"
    first = findings.strangers[0]
    path = shortened(first.picture.path)
    return f"{len(findings.strangers):,}, first {path}: {first.ratio:.1f} times the usual distance"


def _copies(findings: Findings) -> str:
    if not findings.copies:
        return "none"
    leaks = sum(pair.first.split != pair.second.split for pair in findings.copies)
    pairs = "1 pair" if len(findings.copies) == 1 else f"{len(findings.copies):,} pairs"
    return f"{pairs}, {leaks:,} over two splits"


def _oddities(findings: Findings) -> str:
    if not findings.oddities:
        return "none"
    kinds = Counter(one.kind for one in findings.oddities).most_common()
    return f"{len(findings.oddities):,}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds)


def _slices(findings: Findings) -> Iterator[tuple[str, str]]:
    worse = [one for one in findings.slices if one.is_worse]
    if not worse:
        yield "slices", f"none of {len(findings.slices):,} is worse than the rest by more than chance"
    for one in worse[:_SHOWN]:
        share = per_cent(one.right / one.images, one.low, one.high)
        yield (
            "worse than others",
            (
                f"{one.by} {shortened(one.value)}: {share} ({interval(one.low, one.high)}) of {one.images:,} images, "
                f"p = {one.p_value:.2g}"
            ),
        )
    if len(worse) > _SHOWN:
        yield "worse than others", f"and {len(worse) - _SHOWN:,} slices more"
