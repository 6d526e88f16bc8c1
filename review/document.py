"""What a report says, in one description for all who read it: terminal.py, markdown.py and browser.py render it.

Texts in it may be anybody's, and stay text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# What is longer is cut, and says so: a report is read by people, and posted where it must be short.
LONGEST_TEXT = 2_000
MOST_ROWS = 500


@dataclass(frozen=True)
class Table:
    """Rows under a header; every cell is text. The first names its row. Of more than `most` rows, the first are shown,
    or, where each has one of `weights`, the heaviest; `shown` says in words which those are."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    shown: str = "the first"
    weights: Sequence[Any] = ()
    most: int = MOST_ROWS


@dataclass(frozen=True)
class Chart:
    """One or two lines over epochs 1, 2, 3, ...: of two, the first is what was."""

    title: str
    lines: dict[str, list[float]]


@dataclass(frozen=True)
class Strong:
    """A text that is to be seen first. `tone` is a colour beside its words: good, bad, warn, or empty for none."""

    text: str
    tone: str = ""


# Takes a text for whom does not see the picture, and returns it as markup. Raises Missing where there is none on this
# machine.
Draw = Callable[[str], str]


@dataclass(frozen=True)
class Shown:
    """An image, and what is said of it, the cells of a table's row; the first is its name. `draw` is None for an image
    that was not prepared."""

    cells: Sequence[str]
    draw: Draw | None


@dataclass(frozen=True)
class Gallery:
    """Some of `total` images: on a page with their pictures, elsewhere a table."""

    name: str
    header: Sequence[str]
    images: Sequence[Shown]
    total: int

    @property
    def title(self) -> str:
        shown = "" if len(self.images) == self.total else f"{len(self.images):,} of "
        return f"{self.name}: {shown}{self.total:,} image{'' if self.total == 1 else 's'}"

    @property
    def table(self) -> Table:
        return Table(self.header, [image.cells for image in self.images])


Block = str | Strong | Table | Chart | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and its blocks. `whole`: it is the last to be cut where a report must be short."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    whole: bool = False


@dataclass(frozen=True)
class Document:
    """A title, what must not be overlooked, the verdict first, and sections."""

    title: str
    banners: list[Strong]
    sections: list[Section]

    @property
    def verdict(self) -> str:
        """In one line."""
        return " ".join(banner.text for banner in self.banners)


def shown_rows(table: Table, most: int = MOST_ROWS) -> tuple[Sequence[Sequence[str]], str]:
    """The rows that a report shows, `most` or the table's own limit at most, and a sentence about the others."""
    most = min(most, table.most)
    more = len(table.rows) - most
    if more <= 0:
        return table.rows, ""
    rows = table.rows
    if table.weights:
        ordered = sorted(zip(table.weights, rows, strict=True), key=lambda pair: pair[0], reverse=True)
        rows = [row for _, row in ordered]
    return rows[:most], f"And {more:,} more; shown {'is' if most == 1 else 'are'} {table.shown}."


def some(names: Sequence[str], most: int) -> str:
    """The first of `names` in one line, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def thinned(lines: Mapping[str, Sequence[float]], most: int) -> tuple[int, dict[str, list[float]]]:
    """Lines of `most` values at most: the means of so many values, the same number for all, which is returned first."""
    step = max([1, *(-(-len(line) // most) for line in lines.values())])
    return step, {
        name: [sum(block) / len(block) for block in (line[start : start + step] for start in range(0, len(line), step))]
        for name, line in lines.items()
    }


def shorten(text: str, most: int = LONGEST_TEXT) -> str:
    """What is shown of a text."""
    return text if len(text) <= most else f"{text[:most]}… (the first {most:,} of {len(text):,} characters)"
