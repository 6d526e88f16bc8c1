"""A report in Markdown and in HTML from one description of it."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from stages.evaluate.page import STYLE

_WIDTH, _HEIGHT, _MARGIN = 420, 200, 40
_COLOURS = ("#7a7a7a", "#3572b0")
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


Block = str | Table | Chart


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
    parts = [f"# {document.title}", f"**{document.verdict}**"]
    for section in document.sections:
        parts.append(f"## {section.title}")
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
        return block
    if isinstance(block, Table):
        lines = [block.header, ["---"] * len(block.header), *block.rows]
        return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
    # Mermaid has no legend.
    names = "; ".join(f"line {number}: {name}" for number, name in enumerate(block.lines, 1))
    title = f"{block.title} ({names})".replace('"', "'")
    lines_of_chart = "\n".join(
        f"    line [{', '.join(f'{value:.5g}' for value in values)}]" for values in block.lines.values()
    )
    last = max(2, *map(len, block.lines.values()))
    return f'```mermaid\nxychart-beta\n    title "{title}"\n    x-axis "epoch" 1 --> {last}\n{lines_of_chart}\n```'


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_text(block)}</p>"
    if isinstance(block, Table):
        header = "".join(f"<th>{_text(cell)}</th>" for cell in block.header)
        rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in block.rows)
        return f'<div class="scroll"><table><tr>{header}</tr>{rows}</table></div>'
    picture = f'<div role="img" aria-label="{_text(block.title)}">{_svg(block)}</div>'
    return f"<figure>{picture}<figcaption>{_legend(block)}</figcaption></figure>"


def _legend(chart: Chart) -> str:
    names = "; ".join(
        f'<span style="color:{colour}">━</span> {_text(name)}'
        for (name, _), colour in zip(chart.lines.items(), _COLOURS, strict=False)
    )
    return f"{_text(chart.title)}: {names}"


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


def _text(value: object) -> str:
    return html.escape(str(value))
