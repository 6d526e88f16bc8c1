"""A report for a person at a browser: cards side by side, the verdict in colour and words, pictures of the images."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from review.document import Block, Chart, Document, Gallery, Section, Shown, Strong, Table, shorten, shown_rows
from review.page import card, html_page
from review.revision import Missing
from stages.common import escape

# Characters of a line of a table: what fits a telephone, and what fits one of three columns of cards.
_NARROW, _BROAD = 32, 50
_STYLE = """
.grid { grid-auto-flow: dense; }
.stack { display: grid; gap: 1rem; align-content: start; }
.card { container-type: inline-size; }
.card .banner { margin: 0 0 .5rem; }
.scroll { margin: .5rem 0; }
tbody th { font-weight: 400; } th.number { white-space: normal; }
.rows { font-size: .92rem; } .together { white-space: nowrap; }
code { font-size: .9em; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.pictures { margin: .5rem 0; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.pictures dl { display: block; } .pictures dt, .pictures dd { display: inline; } .pictures dd { color: var(--text); }
.pictures dd::after { content: "\\a"; white-space: pre; }
.pictures strong { color: var(--text); font-weight: 600; }
/* Where columns have no room, a list: a row's name on a line of its own, and each value with the name of its column. */
@container (max-width: 30rem) {
.rows thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.rows tr { display: flex; flex-wrap: wrap; column-gap: 1rem; padding: .3rem 0; border-bottom: 1px solid var(--line); }
.rows td, .rows th, .rows td.number { border: 0; padding: 0; text-align: left; white-space: normal; min-width: 0;
overflow-wrap: anywhere; }
.rows tbody th { flex-basis: 100%; font-weight: 600; }
.rows td::before { content: attr(data-label) " "; color: var(--soft); }
}
"""
_TONES = {"better": "good", "worse": "bad"}
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(e[-+]\d+)?( better| worse)?|—")


def page(document: Document) -> str:
    """One HTML page that needs no network."""
    reasons: list[str] = []
    body = [f"<h1>{_text(document.title)}</h1>", *map(_banner, document.banners), '<div class="grid">']
    before = ""
    # What needs the whole width comes last, but for a section that begins with a verdict.
    ordered = sorted(document.sections, key=lambda section: _size(section) == "wide" and not _has_verdict(section))
    for size, sections in groupby(ordered, _size):
        cards = [card(section.title, *_blocks(section, reasons), size=size) for section in sections]
        # Beside a card of two columns, the one that is left is filled.
        stacked = before == "double" and not size and len(cards) > 1
        body += ['<div class="stack">', *cards, "</div>"] if stacked else cards
        before = size
    return html_page(document.title, [*body, "</div>"], style=_STYLE)


def _has_verdict(section: Section) -> bool:
    return any(isinstance(block, Strong) for block in section.blocks)


def _size(section: Section) -> str:
    if any(isinstance(block, Strong | Gallery | Chart) for block in section.blocks):
        return "wide"
    return "double" if any(isinstance(block, Table) and _width(block) > _BROAD for block in section.blocks) else ""


def _width(table: Table) -> int:
    """About how many characters a line needs, the space between columns among them: of a header, one word."""
    columns = zip(*([2 + len(cell) for cell in row] for row in table.rows), strict=True)
    words = [2 + max(map(len, name.split()), default=0) for name in table.header]
    return sum(max(word, *lengths) for word, lengths in zip(words, columns, strict=True)) if table.rows else sum(words)


def _blocks(section: Section, reasons: list[str]) -> Iterable[str]:
    for kind, blocks in groupby(section.blocks, key=type):
        inside = "".join(_block(block, reasons) for block in blocks)
        yield f'<div class="charts">{inside}</div>' if kind is Chart else inside


def _block(block: Block, reasons: list[str]) -> str:
    """`reasons`: why there are no pictures, as far as the page has said it; added to."""
    match block:
        case str():
            return f"<p>{_text(block)}</p>"
        case Strong():
            return _banner(block)
        case Table():
            return _table(block)
        case Gallery():
            return _gallery(block, reasons)
        case Chart():
            return _chart(block)


def _banner(strong: Strong) -> str:
    head, colon, rest = strong.text.partition(":")
    return f'<p class="{f"banner {strong.tone}".strip()}"><strong>{_text(head + colon)}</strong>{_text(rest)}</p>'


def _table(table: Table) -> str:
    """With the roles of its parts, which some browsers forget where a style makes it a list."""
    rows, rest = shown_rows(table)
    numbers = [all(_NUMBER.fullmatch(row[column]) for row in rows) for column in range(len(table.header))]
    kinds = [' class="number"' if number and column else "" for column, number in enumerate(numbers)]
    header = "".join(
        f'<th role="columnheader" scope="col"{kind}>{_text(name)}</th>'
        for name, kind in zip(table.header, kinds, strict=True)
    )
    lines = "".join(f'<tr role="row">{_row(row, table.header, kinds)}</tr>' for row in rows)
    list_like = ' class="rows"' if _width(table) > _NARROW else ""
    return (
        f'<div class="scroll"><table role="table"{list_like}>'
        f'<thead role="rowgroup"><tr role="row">{header}</tr></thead>'
        f'<tbody role="rowgroup">{lines}</tbody></table></div>' + (f"<p>{_text(rest)}</p>" if rest else "")
    )


def _row(row: Sequence[str], header: Sequence[str], kinds: Sequence[str]) -> str:
    name, *values = row
    cells = [
        f'<td role="cell" data-label="{escape.html(label)}"{kind}>{_value(value, label)}</td>'
        for value, label, kind in zip(values, header[1:], kinds[1:], strict=True)
    ]
    return f'<th role="rowheader" scope="row">{_cell(name)}</th>{"".join(cells)}'


def _value(text: str, column: str) -> str:
    """A cell; of a change, the word that judges it in colour."""
    if column != "change":
        return _cell(text)
    return re.sub(
        "(?<= )(better|worse)$", lambda word: f'<strong class="{_TONES[word[0]]}">{word[0]}</strong>', _cell(text)
    )


def _gallery(gallery: Gallery, reasons: list[str]) -> str:
    """Pictures, as far as there are any; of the other images a table, and why."""
    pictures, others = [], []
    new: list[str] = []
    for image in gallery.images:
        try:
            pictures.append(_picture(image, gallery.header))
        except Missing as missing:
            others.append(image.cells)
            new += [why for why in [str(missing)] if why not in reasons + new]
    reasons += new
    return (
        f"<h3>{_text(gallery.title)}</h3>"
        + (f'<div class="pictures">{"".join(pictures)}</div>' if pictures else "")
        + (_table(Table(gallery.header, others)) if others else "")
        + "".join(f'<p class="soft">Without a picture: {_text(why)}</p>' for why in new)
    )


def _picture(image: Shown, header: Sequence[str]) -> str:
    if image.draw is None:
        raise Missing("an image that is in no split is not prepared.")
    (_, name), *rows = zip(header, map(shorten, image.cells), strict=True)
    picture = image.draw(f"{name}: {', '.join(f'{label} {value}' for label, value in rows)}")
    values = "".join(f"<dt>{_text(label)}</dt> <dd>{_text(value)}</dd>" for label, value in rows)
    return f"<figure>{picture}<figcaption><strong>{_cell(name)}</strong><dl>{values}</dl></figcaption></figure>"


def _chart(chart: Chart) -> str:
    # Matplotlib takes a second to import, which only a page needs.
    from review.charts import draw_lines

    ends = "; ".join(f"{name} {line[0]:.4g} → {line[-1]:.4g}" for name, line in chart.lines.items())
    return draw_lines(chart.lines, title=chart.title, alt=f"{chart.title} by epoch, first → last: {ends}")


def _text(text: str) -> str:
    """Text with its code spans as such."""
    return _spans(escape.html(shorten(text)))


def _spans(markup: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", markup)


def _cell(text: str) -> str:
    """The same on one line, which may be broken within a path or a name_of_words, and not within an interval."""
    parted = re.sub(r"([_/])(?=\w)", r"\1<wbr>", escape.html(escape.terminal(shorten(text))))
    return _spans(re.sub(r"(\([\d.]+–[\d.]+\))", r'<span class="together">\1</span>', parted))
