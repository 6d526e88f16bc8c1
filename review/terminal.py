"""A report for a person at a terminal: tables in columns, the verdict in colour, curves as one line each.

Written with rich, which knows the width of the terminal and of each character, and heeds NO_COLOR.
"""

from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as Columns
from rich.text import Text

from review.document import Block, Chart, Document, Gallery, Strong, Table, shorten, shown_rows, thinned
from stages.common import escape

_LEVELS = "▁▂▃▄▅▆▇█"
_MOST_LEVELS = 40
_STYLES = {"good": "bold green", "bad": "bold red", "warn": "bold yellow"}


def show(document: Document, stream: IO[str], width: int | None = None) -> None:
    """Write `document` to a terminal, `width` columns wide, or as wide as it is."""
    console = Console(file=stream, width=width, highlight=False)
    console.print(_text(document.title, "bold"))
    for banner in document.banners:
        console.print(_strong(banner))
    for section in document.sections:
        console.print()
        console.print(_text(section.title, "bold underline"))
        for block in section.blocks:
            console.print(Padding(_block(block), (0, 0, 0, 2), expand=False))


def _block(block: Block) -> Text | Columns | Group:
    match block:
        case str():
            return _text(block)
        case Strong():
            return _strong(block)
        case Table():
            return _columns(block)
        case Gallery():
            return Group(_text(block.title, "italic"), _columns(block.table))
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
        _, means = thinned({name: line}, _MOST_LEVELS)
        blocks = "".join(_LEVELS[round((value - low) / span * (len(_LEVELS) - 1))] for value in means[name])
        text.append(f"\n  {escape.terminal(name):{names}}  {blocks}  {line[0]:.4g} → {line[-1]:.4g}")
    return text


def _strong(strong: Strong) -> Text:
    return _text(strong.text, _STYLES.get(strong.tone, "bold"))


def _text(text: str, style: str = "") -> Text:
    return Text(escape.terminal(shorten(text)), style=style)
