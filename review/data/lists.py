"""The findings as CSV files, whole: a page has room for some of them."""

from collections.abc import Iterator
from pathlib import Path

from review.data.findings import Findings, Picture
from stages.common import tables

COLUMNS = ("finding", "path", "sha256", "split", "class", "suggested", "p_class", "p_suggested", "what")


def write_suspects(path: Path, findings: Findings) -> None:
    """Write every image that was found, a row for each finding, in the order in which to look at them."""
    tables.write(path, COLUMNS, _rows(findings))


def _rows(findings: Findings) -> Iterator[tuple[str, ...]]:
    for suspect in findings.suspects:
        probabilities = f"{suspect.p_given:.4f}", f"{suspect.p_suggested:.4f}"
        yield "label", *_picture(suspect.picture), suspect.suggested, *probabilities, ""
    for stranger in findings.strangers:
        yield "stranger", *_picture(stranger.picture), "", "", "", f"{stranger.ratio:.2f} times the usual distance"
    for pair in findings.copies:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            yield "copy", *_picture(one), "", "", "", f"likeness {pair.likeness:.4f} to {other.split} {other.path}"
    for oddity in findings.oddities:
        yield oddity.kind, *_picture(oddity.picture), "", "", "", oddity.what


def _picture(picture: Picture) -> tuple[str, str, str, str]:
    return picture.path, picture.sha256, picture.split, picture.label
