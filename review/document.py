"""What a report says, in one description for all who read it: terminal.py, markdown.py and browser.py render it.

Texts in it may be anybody's, and stay text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# What is longer is cut, and says so: a report is read by people, and posted where it must be short.
_LONGEST_TEXT = 2_000
_MOST_ROWS = 500


@dataclass(frozen=True)
class Table:
    """Rows under a header; every cell is text. The first names its row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


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
    """A heading and its blocks."""

    title: str
    blocks: list[Block] = field(default_factory=list)


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


def shown_rows(table: Table) -> tuple[Sequence[Sequence[str]], str]:
    """The rows that a report shows, and a sentence about the others."""
    more = len(table.rows) - _MOST_ROWS
    return table.rows[:_MOST_ROWS], f"And {more:,} rows more, which the JSON output has." if more > 0 else ""


def shorten(text: str) -> str:
    """What is shown of a text."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… (the first of {len(text):,} characters)"
