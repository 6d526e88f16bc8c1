"""A report for a change request: GitHub's Markdown, with charts in Mermaid, which GitHub and GitLab draw themselves."""

from review.document import Block, Chart, Document, Gallery, Strong, Table, shorten, shown_rows
from stages.common import escape


def markdown(document: Document) -> str:
    """The whole report. Pictures of images are left to the page: GitHub shows none that are not published."""
    parts = [f"# {_text(document.title)}", f"**{_text(document.verdict)}**"]
    for section in document.sections:
        parts.append(f"## {_text(section.title)}")
        parts += map(_block, section.blocks)
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case str():
            return _text(block)
        case Strong():
            return f"**{_text(block.text)}**"
        case Table():
            return _table(block)
        case Gallery():
            return f"### {_text(block.title)}\n\n{_table(block.table)}"
        case Chart():
            return _chart(block)


def _table(table: Table) -> str:
    rows, rest = shown_rows(table)
    header, *lines = ("| " + " | ".join(map(_cell, line)) + " |" for line in [table.header, *rows])
    text = "\n".join([header, "| " + " | ".join(["---"] * len(table.header)) + " |", *lines])
    return f"{text}\n\n{rest}" if rest else text


def _chart(chart: Chart) -> str:
    # Mermaid has no legend.
    names = "; ".join(f"line {number}: {name}" for number, name in enumerate(chart.lines, 1))
    title = escape.mermaid(shorten(f"{chart.title} ({names})"))
    lines = "\n".join(f"    line [{', '.join(f'{value:.5g}' for value in values)}]" for values in chart.lines.values())
    last = max(2, *map(len, chart.lines.values()))
    return f'```mermaid\nxychart-beta\n    title "{title}"\n    x-axis "epoch" 1 --> {last}\n{lines}\n```'


def _text(text: str) -> str:
    return escape.markdown(shorten(text))


def _cell(text: str) -> str:
    return escape.markdown_cell(shorten(text))
