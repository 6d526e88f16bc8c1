"""A report for a change request: GitHub's Markdown, with charts in Mermaid, which GitHub and GitLab draw themselves.

It always fits a comment, and is never cut inside: what a table shows of its rows, a chart of its points and a cell of
its text, becomes less until the whole fits. The verdict stays whole, and so does the gate as long as it can.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from review.document import (
    LONGEST_TEXT,
    MOST_ROWS,
    Block,
    Chart,
    Document,
    Gallery,
    Strong,
    Table,
    shorten,
    shown_rows,
    thinned,
)
from stages.common import escape

# GitHub takes 65,536 characters as a comment; verdict.py has another 10,000 bytes of it.
MOST_BYTES = 50_000
_CUT = "Cut to fit a comment: with `--html FILE`, the same command has more, and with `--json` all."


class _Room(NamedTuple):
    """What is shown at most: rows of a table, characters of a text, points of a line."""

    rows: int
    characters: int = LONGEST_TEXT
    points: int = 100


_WHOLE = _Room(MOST_ROWS)
_LESS = [
    *(_Room(rows) for rows in (300, 200, 150, 100, 70, 50, 30, 20)),
    *(_Room(rows, 500, 50) for rows in (50, 30, 20)),
    *(_Room(rows, 150, 20) for rows in (20, 10, 5)),
]


def markdown(document: Document, most: int = MOST_BYTES) -> str:
    """The whole report in `most` bytes of UTF-8. Pictures of images are left to the page: GitHub shows none that are
    not published."""
    every, least = len(document.sections), _LESS[-1]
    attempts = [(every, room, _WHOLE) for room in (_WHOLE, *_LESS)]
    # A hundred tables, a gate of thousands of reasons: what nothing of this project has.
    attempts += [(count, least, _WHOLE) for count in range(every - 1, 0, -1)]
    attempts += [(every, least, room) for room in _LESS] + [(count, least, least) for count in range(every - 1, 0, -1)]
    texts = (_joined(_report(document, *attempt), most) for attempt in attempts)
    return next(filter(None, texts), "") or "".join(_report(document, 0, least, least))


def _joined(parts: Iterable[str], most: int) -> str:
    """The parts as one text; empty, and the other parts not made, where they have more than `most` bytes."""
    made, size = [], 0
    for part in parts:
        made.append(part)
        size += len(part.encode())
        if size > most:
            return ""
    return "".join(made)


def _report(document: Document, count: int, room: _Room, room_of_whole: _Room) -> Iterator[str]:
    """Line by line. `count`: how many sections it has."""
    yield f"# {_text(document.title)}\n\n**{_text(document.verdict)}**\n"
    for section in document.sections[:count]:
        yield f"\n## {_text(section.title)}\n"
        for block in section.blocks:
            yield "\n"
            yield from _block(block, room_of_whole if section.whole else room)
    if left_out := [section.title for section in document.sections[count:]]:
        yield f"\nLeft out: {_text(', '.join(left_out))}.\n"
    if room != _WHOLE:
        yield f"\n{_CUT}\n"


def _block(block: Block, room: _Room) -> Iterator[str]:
    match block:
        case str():
            yield f"{_text(block, room)}\n"
        case Strong():
            yield f"**{_text(block.text, room)}**\n"
        case Table():
            yield from _table(block, room)
        case Gallery():
            yield f"### {_text(block.title, room)}\n\n"
            yield from _table(block.table, room)
        case Chart():
            yield _chart(block, room)


def _table(table: Table, room: _Room) -> Iterator[str]:
    rows, rest = shown_rows(table, room.rows)
    yield _line(map(partial(_cell, room=room), table.header))
    yield _line(["---"] * len(table.header))
    for row in rows:
        yield _line(map(partial(_cell, room=room), row))
    if rest:
        yield f"\n{_text(rest)}\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _chart(chart: Chart, room: _Room) -> str:
    step, lines = thinned(chart.lines, room.points)
    # Mermaid has no legend.
    names = "; ".join(f"line {number}: {name}" for number, name in enumerate(lines, 1))
    title = escape.mermaid(shorten(f"{chart.title} ({names})", room.characters))
    values = "\n".join(f"    line [{', '.join(f'{value:.5g}' for value in line)}]" for line in lines.values())
    last = max(2, *map(len, chart.lines.values()))
    label = "epoch" if step == 1 else f"epoch (means of {step})"
    return f'```mermaid\nxychart-beta\n    title "{title}"\n    x-axis "{label}" 1 --> {last}\n{values}\n```\n'


def _text(text: str, room: _Room = _WHOLE) -> str:
    return escape.markdown(shorten(text, room.characters))


def _cell(text: str, room: _Room) -> str:
    return escape.markdown_cell(shorten(text, room.characters))
