"""corrections.csv: what people have decided about single images, in Git, while the raw images stay as they came.

A row is of all files with the same pixels, wherever they lie; its path is for people. Prepare applies it, a review
shows what it changed, and `make correct` merges what the page of `make look` has saved.
"""

import difflib
import functools
import io
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from stages.common import tables
from stages.common.errors import UserError, listed
from stages.common.files import write_text
from stages.common.names import normal, shortened, why_no_class, why_not_within, why_refused

FILE = Path("corrections.csv")
COLUMNS = ("path", "sha256", "decision", "class", "reason")
# The label is right; the image is of the class that the row names; the image is of no use.
KEEP, RELABEL, LEAVE_OUT = "keep", "relabel", "leave out"
DECISIONS = (KEEP, RELABEL, LEAVE_OUT)
# Some hundred thousand rows.
MOST_BYTES = 32 << 20
_LONGEST_REASON = 500
_SHOWN = 3
# By its first character, spreadsheets take a text for a formula, and run it (OWASP, CSV injection).
_FORMULA = tuple("=+-@＝＋－＠")
_CORRECTED = "corrected, was "
# Why corrections do not fit the images, and what to do.
_GONE = "are of images that are gone, the pixels and the path. Remove these lines"
_CHANGED = (
    "are of images that were changed: the file of this name has other pixels now. Look at it, then decide again, or "
    "remove these lines"
)
_UNREAD = (
    "are of files that are not read: no whole images, or without a row in labels.csv. Mend the files, or remove these "
    "lines"
)
_NO_CLASS = "name a class that the data do not have. Write one of theirs"
_SAME = f"relabel an image to the class that it has already. Write `{KEEP}` without a class, or remove these lines"
_NO_PATH = (
    "have a path that a spreadsheet would run as a formula, and that is not that of the image. Write the path that "
    "prepared/manifest.csv has"
)


class Correction(NamedTuple):
    """A decision about the image whose pixels have this SHA-256, lower-case hexadecimal digits. `label`: of `relabel`,
    the new class, else empty. `line`: where it stands in its file, from 1."""

    path: str
    sha256: str
    decision: str
    label: str
    reason: str
    line: int = 0

    @property
    def effect(self) -> str:
        """What is done with the image, in words."""
        return f"{RELABEL} to {self.label}" if self.decision == RELABEL else self.decision


class CorrectionsError(ValueError):
    """Why a content is no such file: `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - _SHOWN
        super().__init__("; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""))
        self.problems = problems


def parse(content: bytes) -> list[Correction]:
    """All rows. Spaces around a value are not part of it, and names are compared in Unicode's NFC. Raises
    CorrectionsError, also where an image is there twice."""
    if len(content) > MOST_BYTES:
        raise CorrectionsError([f"{len(content):,} bytes; expected {MOST_BYTES:,} at most"])
    problems: list[str] = []
    found: dict[str, Correction] = {}
    try:
        rows = tables.Rows(io.StringIO(content.decode("utf-8-sig"), newline=""), COLUMNS, ())
        for row in rows:
            if row is None:
                problems.append(f"line {rows.line}: expected {len(COLUMNS)} values")
                continue
            path, sha256, decision, label, reason = (normal(row[name].strip()) for name in COLUMNS)
            one = Correction(path, sha256.lower(), decision, label, reason, rows.line)
            if wrong := list(_wrong(one)):
                problems.append(f"line {rows.line}: {'; '.join(wrong)}")
            elif (other := found.setdefault(one.sha256, one)) is not one:
                problems.append(f"lines {other.line} and {one.line}: {_twice(other, one)}")
    except UnicodeDecodeError as error:
        raise CorrectionsError([f"not UTF-8: {error}. Save it as CSV, with commas, in UTF-8"]) from None
    except tables.TableError as error:
        raise CorrectionsError([*problems, f"{error}. Save it as CSV, with commas, in UTF-8"]) from None
    if problems:
        raise CorrectionsError(problems)
    return list(found.values())


def _wrong(one: Correction) -> Iterable[str]:
    """What is wrong with a row by itself."""
    if not one.path:
        yield "empty path"
    elif reason := why_not_within(one.path):
        yield f"path {shortened(one.path)!r}: {reason}"
    if not re.fullmatch("[0-9a-f]{64}", one.sha256):
        yield (
            f"sha256 {shortened(one.sha256)!r}: expected the 64 hexadecimal digits that prepared/manifest.csv has of "
            "the pixels"
        )
    if one.decision not in DECISIONS:
        yield f"decision {shortened(one.decision)!r}: expected {', '.join(DECISIONS[:-1])} or {DECISIONS[-1]}"
    elif one.decision == RELABEL and not one.label:
        yield f"{RELABEL} without a class"
    elif one.decision != RELABEL and one.label:
        yield f"{one.decision} with the class {shortened(one.label)!r}: expected none, or {RELABEL}"
    if reason := why_no_class(one.label):
        yield f"class {shortened(one.label)!r}: {reason}"
    # It may say `p < 0.1`: no name, and escaped wherever it is shown.
    if reason := why_refused(one.reason.replace("<", "")):
        yield f"reason with {reason}"
    if len(one.reason) > _LONGEST_REASON:
        yield f"reason of {len(one.reason):,} characters: expected {_LONGEST_REASON} at most"
    if one.reason.startswith(_FORMULA):
        yield f"reason {shortened(one.reason)!r}: a spreadsheet would run it as a formula; begin it with a word"


def _twice(one: Correction, other: Correction) -> str:
    how = f"with the same decision, {one.effect}"
    if one.effect != other.effect:
        how = f"with two decisions, {one.effect} and {other.effect}"
    paths = one.path if one.path == other.path else f"{one.path} = {other.path}"
    return f"the same image twice, {how}: {shortened(paths, 200)}. Keep one"


def read(path: Path, *, missing_is_empty: bool = False) -> list[Correction]:
    """The rows of a file. UserError that names every problem."""
    if path.is_symlink():
        raise UserError(f"{path}: expected a file, got a link. Put the file itself in its place.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a file, got a folder or a device.")
    try:
        with path.open("rb") as stream:
            return parse(stream.read(MOST_BYTES + 1))
    except FileNotFoundError:
        if missing_is_empty:
            return []
        raise UserError(f"{path}: no such file. Name the one that the page of `make look` has saved.") from None
    except CorrectionsError as error:
        plural = "" if len(error.problems) == 1 else "s"
        raise UserError(
            f"{path}: {len(error.problems)} problem{plural}; nothing was changed. Mend these lines, or remove them:\n"
            + listed(error.problems)
        ) from None


def text(corrections: Iterable[Correction]) -> str:
    """What a file has that holds these, sorted by path."""
    stream = io.StringIO()
    tables.write_rows(stream, [COLUMNS])
    tables.write_rows(stream, (one[: len(COLUMNS)] for one in sorted(corrections)))
    return stream.getvalue()


def write(path: Path, corrections: Iterable[Correction]) -> None:
    """Write a file in one step."""
    write_text(path, text(corrections))


def misfits(
    corrections: Iterable[Correction],
    labels: Mapping[str, Collection[str]],
    found: Mapping[str, str],
    classes: Collection[str],
) -> list[str]:
    """Why corrections do not fit the images: a text for each kind, naming every line.

    `labels`: by the SHA-256 of the pixels, the classes that the data give to files with these; `found`: by the path of
    a file, the SHA-256 of its pixels, empty where it was not read; `classes`: all that there are.
    """
    kinds: dict[str, list[str]] = {}
    # Of many classes, it takes milliseconds.
    nearest = functools.cache(lambda label: difflib.get_close_matches(label, classes, n=1))
    for one in corrections:
        given = labels.get(one.sha256)
        more = ""
        if given is None:
            kind = _GONE if one.path not in found else _CHANGED if found[one.path] else _UNREAD
        elif one.path.startswith(_FORMULA) and found.get(one.path) != one.sha256:
            kind = _NO_PATH
        elif one.decision == RELABEL and one.label not in classes:
            kind = _NO_CLASS
            more = f": {one.label}" + "".join(f"; did you mean {near}?" for near in nearest(one.label))
        elif one.decision == RELABEL and set(given) == {one.label}:
            kind = _SAME
            more = f": {one.label}"
        else:
            continue
        kinds.setdefault(kind, []).append(f"line {one.line}: {one.path}{more}")
    return [f"{len(lines)} corrections {kind}:\n{listed(lines)}" for kind, lines in kinds.items()]


def note(given: str, reason: str) -> str:
    """What prepared/manifest.csv says of an image that was relabelled: the class that the data give, and why."""
    return f"{_CORRECTED}{given}: {reason}" if reason else f"{_CORRECTED}{given}"


def was(said: str, reason: str, classes: Iterable[str]) -> str:
    """The class that the data give, by what prepared/manifest.csv says of an image that was relabelled for `reason`;
    empty where it does not say so."""
    return next((label for label in classes if f"{said}; ".startswith(f"{note(label, reason)}; ")), "")
