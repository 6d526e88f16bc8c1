"""A report for a person at a terminal: tables in columns, the verdict in colour, curves as one line each.

Written with rich, which knows the width of the terminal and of each character, and heeds NO_COLOR.
"""

from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Columns
from rich.text import Text

from review.document import Block, Chart, Document, Strong, Table, shorten, shown_rows
from stages.common import escape

_LEVELS = "▁▂▃▄▅▆▇█"
_MOST_LEVELS = 40
# By the first word of a verdict.
_STYLES = {"Better": "bold green", "Passed.": "bold green", "Worse": "bold red", "Refused.": "bold red"}


def show(document: Document, stream: IO[str], width: int | None = None) -> None:
    """Write `document` to a terminal, `width` columns wide, or as wide as it is."""
    console = Console(file=stream, width=width, highlight=False)
    console.print(_text(document.title, "bold"))
    console.print(_verdict(document.verdict))
    for section in document.sections:
        console.print()
        console.print(_text(section.title, "bold underline"))
        for block in section.blocks:
            console.print(Padding(_block(block), (0, 0, 0, 2), expand=False))


def _block(block: Block) -> Text | Columns:
    match block:
        case str():
            return _text(block)
        case Strong():
            return _verdict(block.text)
        case Table():
            return _columns(block)
        case Chart():
            return _lines(block)


def _columns(table: Table) -> Columns:
    rows, rest = shown_rows(table)
    columns = Columns(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=_text(rest) if rest else None)
    for name in table.header:
        columns.add_column(_text(name), overflow="fold")
    for row in rows:
        columns.add_row(*map(_text, row))
    return columns


def _lines(chart: Chart) -> Text:
    """Each curve by the heights of at most 40 blocks, of all curves on one scale, with its first and last value."""
    values = [value for line in chart.lines.values() for value in line]
    low, span = min(values), (max(values) - min(values)) or 1.0
    names = max(map(len, map(escape.terminal, chart.lines)))
    text = _text(f"{chart.title}, {min(values):.4g} to {max(values):.4g}")
    for name, line in chart.lines.items():
        step = max(1, -(-len(line) // _MOST_LEVELS))
        means = [sum(part) / len(part) for part in (line[start : start + step] for start in range(0, len(line), step))]
        blocks = "".join(_LEVELS[round((value - low) / span * (len(_LEVELS) - 1))] for value in means)
        text.append(f"\n  {escape.terminal(name):{names}}  {blocks}  {line[0]:.4g} → {line[-1]:.4g}")
    return text


def _verdict(text: str) -> Text:
    return _text(text, next((style for word, style in _STYLES.items() if text.startswith(word)), "bold"))


def _text(text: str, style: str = "") -> Text:
    return Text(escape.terminal(shorten(text)), style=style)
