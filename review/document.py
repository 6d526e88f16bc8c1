"""A report in Markdown and in HTML from one description of it. Texts in it may be anybody's, and stay text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from review.page import STYLE
from stages.common import escape

_WIDTH, _HEIGHT, _MARGIN = 420, 200, 40
_COLOURS = ("#7a7a7a", "#3572b0")
# What is longer is cut, and says so: a report is read by people, and posted where it must be short.
_LONGEST_TEXT = 2_000
_MOST_ROWS = 500
# A wide table is pushed aside, not squeezed until words break.
_STYLE = STYLE + ".scroll td, .scroll th { overflow-wrap: break-word; }"


@dataclass(frozen=True)
class Table:
    """Rows under a header; every cell is text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """Lines over 1, 2, 3, ...: in grey what was, in blue what is."""

    title: str
    lines: dict[str, list[float]]


@dataclass(frozen=True)
class Strong:
    """A text that is to be seen first."""

    text: str


Block = str | Strong | Table | Chart


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """A title, the verdict in one line, and sections."""

    title: str
    verdict: str
    sections: list[Section]


def markdown(document: Document) -> str:
    """GitHub's Markdown; charts in Mermaid, which GitHub and GitLab draw by themselves."""
    parts = [f"# {_markdown_text(document.title)}", f"**{_markdown_text(document.verdict)}**"]
    for section in document.sections:
        parts.append(f"## {_markdown_text(section.title)}")
        parts += map(_markdown_block, section.blocks)
    return "\n\n".join(parts) + "\n"


def page(document: Document) -> str:
    """One HTML page that needs no network."""
    body = [f"<h1>{_text(document.title)}</h1>", f'<p class="headline">{_text(document.verdict)}</p>']
    for section in document.sections:
        body.append(f"<h2>{_text(section.title)}</h2>")
        body += map(_html_block, section.blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(document.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _markdown_block(block: Block) -> str:
    if isinstance(block, str):
        return _markdown_text(block)
    if isinstance(block, Strong):
        return f"**{_markdown_text(block.text)}**"
    if isinstance(block, Table):
        rows, rest = shown_rows(block)
        header, *lines = ("| " + " | ".join(map(_cell, line)) + " |" for line in [block.header, *rows])
        table = "\n".join([header, "| " + " | ".join(["---"] * len(block.header)) + " |", *lines])
        return f"{table}\n\n{rest}" if rest else table
    # Mermaid has no legend.
    names = "; ".join(f"line {number}: {name}" for number, name in enumerate(block.lines, 1))
    title = escape.mermaid(shorten(f"{block.title} ({names})"))
    lines_of_chart = "\n".join(
        f"    line [{', '.join(f'{value:.5g}' for value in values)}]" for values in block.lines.values()
    )
    last = max(2, *map(len, block.lines.values()))
    return f'```mermaid\nxychart-beta\n    title "{title}"\n    x-axis "epoch" 1 --> {last}\n{lines_of_chart}\n```'


def _markdown_text(text: str) -> str:
    return escape.markdown(shorten(text))


def _cell(text: str) -> str:
    return escape.markdown_cell(shorten(text))


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_text(block)}</p>"
    if isinstance(block, Strong):
        return f"<p><strong>{_text(block.text)}</strong></p>"
    if isinstance(block, Table):
        shown, rest = shown_rows(block)
        header = "".join(f"<th>{_text(cell)}</th>" for cell in block.header)
        rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in shown)
        return f'<div class="scroll"><table><tr>{header}</tr>{rows}</table>{rest}</div>'
    picture = f'<div role="img" aria-label="{_text(block.title)}">{_svg(block)}</div>'
    return f"<figure>{picture}<figcaption>{_legend(block)}</figcaption></figure>"


def _legend(chart: Chart) -> str:
    names = "; ".join(
        f'<span style="color:{colour}">━</span> {_text(name)}'
        for (name, _), colour in zip(chart.lines.items(), _COLOURS, strict=False)
    )
    return f"{_text(chart.title)}: {names}"


def shown_rows(table: Table) -> tuple[Sequence[Sequence[str]], str]:
    """The rows that a report shows, and a sentence about the others."""
    more = len(table.rows) - _MOST_ROWS
    return table.rows[:_MOST_ROWS], f"And {more:,} rows more, which the JSON output has." if more > 0 else ""


def shorten(text: str) -> str:
    """What is shown of a text."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… (the first of {len(text):,} characters)"


def _svg(chart: Chart) -> str:
    values = [value for line in chart.lines.values() for value in line]
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, max(2, *map(len, chart.lines.values()))
    right, bottom = _WIDTH - 10, _HEIGHT - 20

    def point(number: int, value: float) -> str:
        x = _MARGIN + (right - _MARGIN) * number / (last - 1)
        return f"{x:.1f},{bottom - (bottom - 10) * (value - low) / span:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" '
        f'points="{" ".join(point(number, value) for number, value in enumerate(line))}"/>'
        for line, colour in zip(chart.lines.values(), _COLOURS, strict=False)
    )
    label = '<text x="{}" y="{}" font-size="11" fill="currentColor">{}</text>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" style="max-width:100%">'
        f'<path d="M{_MARGIN} 10V{bottom}H{right}" fill="none" stroke="currentColor" opacity=".4"/>{lines}'
        + label.format(0, 14, f"{high:.4g}")
        + label.format(0, bottom, f"{low:.4g}")
        + label.format(right - 50, _HEIGHT - 4, f"epoch {last}")
        + "</svg>"
    )


def _text(text: str) -> str:
    return escape.html(shorten(text))
