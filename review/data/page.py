"""The page on which a person looks at what was found, and decides: keep, other class, leave out.

What is decided stays in the browser, until its button saves it as corrections.csv: the rows of the project's own file,
embedded in the page, and the new ones, which win.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from review.data import cards, figures
from review.data.decided import subjects
from review.data.findings import Findings
from review.data.sheet import Draw, Part, Sheet, fill
from review.page import facts, folded, html_page
from stages.common.escape import html

# In bytes: what a mail or a chat takes, and a browser opens at once.
MOST_BYTES = 10_000_000
# For the number of each section's shown cards, and JSON's punctuation.
_MARGIN = 10_000
# Cards that a browser draws together, or not at all while they are far: whole rows of 1, 2, 3, 4 or 6.
_TOGETHER = 12
_TITLE = "A look at the data"
_SCRIPT = Path(__file__).with_name("decide.js").read_text(encoding="utf-8")
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

_BAR = """
<div class="bar" hidden>
<div class="count"><strong id="count"></strong><progress id="done" aria-label="decided"></progress></div>
<label><input type="checkbox" id="undecided"> undecided only</label>
<button type="button" data-act="undo">Undo <kbd>u</kbd></button>
<button type="button" data-act="help">Keys <kbd>?</kbd></button>
<button type="button" data-act="save" class="first">Save<span> corrections.csv</span></button>
<p id="said" role="status"></p>
</div>
<p class="banner warn" id="forgetful" role="alert" hidden></p>
"""
_TAIL = """
<template id="actions"><div class="act" role="group" aria-label="Decide">
<button type="button" data-act="keep"><kbd>1</kbd><span>Keep</span></button>
<button type="button" data-act="suggested"><kbd>2</kbd><span></span></button>
<button type="button" data-act="other"><kbd>3</kbd><span>Other…</span></button>
<button type="button" data-act="out"><kbd>4</kbd><span>Leave out</span></button>
</div><div class="decided" hidden><b></b><button type="button" data-act="reason">Reason…</button>
<button type="button" data-act="clear">Undo</button></div></template>
<dialog id="choose" aria-labelledby="choose-title"><form method="dialog"><h2 id="choose-title">Which class?</h2>
<div class="beside"><img alt=""><div><input id="class" role="combobox" aria-expanded="true" aria-controls="classes"
aria-autocomplete="list" aria-labelledby="choose-title" autocomplete="off" spellcheck="false"
placeholder="type to filter"><ul id="classes" role="listbox" aria-labelledby="choose-title"></ul>
<p class="soft" id="more"></p></div></div>
<p><button type="button" data-act="close">Cancel <kbd>Esc</kbd></button></p></form></dialog>
<dialog id="because" aria-labelledby="because-title"><form method="dialog"><h2 id="because-title">Reason</h2>
<p><input id="reason" maxlength="200" aria-labelledby="because-title" autocomplete="off"></p>
<p class="soft">For whoever reviews the change; empty for what the page has found.</p>
<p><button class="first">Set <kbd>Enter</kbd></button>
<button type="button" data-act="close">Cancel <kbd>Esc</kbd></button></p></form></dialog>
<dialog id="help" aria-labelledby="help-title"><form method="dialog"><h2 id="help-title">Keys</h2><dl>
<dt><kbd>j</kbd> <kbd>k</kbd> or arrows</dt><dd>next, previous, up, down</dd>
<dt><kbd>1</kbd></dt><dd>keep: the label is right, or the picture belongs</dd>
<dt><kbd>2</kbd> or <kbd>Enter</kbd></dt><dd>the suggested class is right</dd>
<dt><kbd>3</kbd> or <kbd>c</kbd></dt><dd>choose another class</dd>
<dt><kbd>4</kbd> or <kbd>x</kbd></dt><dd>leave the picture out</dd>
<dt><kbd>u</kbd> or <kbd>Backspace</kbd></dt><dd>undo: this card's decision, or else the last one</dd>
<dt><kbd>r</kbd></dt><dd>the reason of this card's decision, or else of the last one</dd>
<dt><kbd>?</kbd></dt><dd>these keys</dd></dl>
<p><label><input type="checkbox" id="keys" checked> keys are on</label></p>
<p><button class="first">Close <kbd>Esc</kbd></button></p></form></dialog>
"""


class Page:
    """The page as text, and how many of each part's cards are shown, of how many."""

    def __init__(self, text: str, parts: Sequence[Part]) -> None:
        self.text = text
        self.shown = {part.title: (len(part.shown), len(part.cards)) for part in parts if part.cards}


def page(
    findings: Findings, draw: Draw, corrections: Sequence[Sequence[str]], *, manifest: str, everything: str
) -> Page:
    """The page, with as many cards as MOST_BYTES hold beside the rest.

    `corrections`: the rows of the project's file as texts; `manifest`: its SHA-256, which says of what data the
    decisions are; `everything`: the name of the file that has all findings.
    """
    sheet = Sheet(draw, {picture.sha256 for picture in subjects(findings)})
    parts = cards.parts(findings)
    rest = [figures.slices(findings), figures.more_images(findings)]
    bare = len(_html(findings, parts, sheet, rest, corrections, manifest, everything).encode())
    fill(parts, sheet, MOST_BYTES - _MARGIN - bare)
    return Page(_html(findings, parts, sheet, rest, corrections, manifest, everything), parts)


def _html(
    findings: Findings,
    parts: Sequence[Part],
    sheet: Sheet,
    rest: Sequence[str],
    corrections: Sequence[Sequence[str]],
    manifest: str,
    everything: str,
) -> str:
    numbers = {name: number for number, name in enumerate(findings.classes)}
    data = {
        "key": f"look at {manifest}",
        "classes": findings.classes,
        "images": [[picture.sha256, picture.path, numbers[picture.label]] for picture in sheet.pictures],
        "rows": [list(row) for row in corrections],
    }
    body = [
        f"<h1>{_TITLE}</h1>",
        _remarks(findings),
        _contents(findings, parts),
        '<noscript><p class="banner warn">Pictures and decisions need this page\'s own script.</p></noscript>',
        _BAR,
        *(_part(part, everything) for part in parts),
        '<div class="grid" id="figures">',
        *rest,
        "</div>",
        folded("What was looked at, and how", facts(findings.facts)),
        _TAIL,
        _embedded("data", data),
        _embedded("pictures", sheet.uris),
    ]
    return html_page(_TITLE, body, style=_STYLE, script=_SCRIPT)


def _remarks(findings: Findings) -> str:
    items = "".join(f"<li>{html(remark)}</li>" for remark in findings.remarks)
    return f'<ul class="remarks">{items}</ul>' if items else ""


def _contents(findings: Findings, parts: Sequence[Part]) -> str:
    links = [(part.name, f"{len(part.cards):,}", part.title.lower()) for part in parts]
    worse = sum(one.is_worse for one in findings.slices)
    links.append(("figures", f"{worse:,}", f"of {len(findings.slices):,} slices worse than the rest"))
    tiles = "".join(f'<a href="#{name}"><b>{count}</b> {html(title)}</a>' for name, count, title in links)
    return f'<nav aria-label="Parts">{tiles}</nav>'


def _part(part: Part, everything: str) -> str:
    head = f'<section class="part" id="{part.name}" aria-labelledby="{part.name}-title">'
    title = f'<h2 id="{part.name}-title">{html(part.title)}: {len(part.cards):,}</h2>'
    if not part.cards:
        return f"{head}{title}<p>None.</p></section>"
    shown = ""
    if len(part.shown) < len(part.cards):
        shown = f" <strong>Showing {len(part.shown):,} of {len(part.cards):,}; all are in {html(everything)}.</strong>"
    rows = [part.shown[start : start + _TOGETHER] for start in range(0, len(part.shown), _TOGETHER)]
    groups = "\n".join(f'<div class="group">{"".join(cards)}</div>' for cards in rows)
    return f'{head}{title}<p class="soft">{html(part.about)}{shown}</p><div class="cards">\n{groups}\n</div></section>'


def _embedded(name: str, content: Any) -> str:
    """JSON for the page's script: no `<` in it can end the element, or begin another."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
