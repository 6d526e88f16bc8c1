"""What all HTML pages of this project have in common: one file, no network, light and dark, wide and narrow.

The pages show texts and pictures of others. A Content Security Policy keeps a browser from loading anything from
elsewhere, and from running any script but the page's own, should an escape be missing.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.escape import html
from stages.common.files import write_text

# Text and its softer kind have a contrast of 4.5 or more on page, card and tints, in both schemes (WCAG 2.2, AA).
STYLE = """
:root { color-scheme: light dark; --page: #f4f6f9; --card: #fff; --text: #1b2330; --soft: #56606e; --line: #d5dbe3;
--first: #1f5fae; --second: #b04a00; --good: #176b30; --bad: #b3202c; --warn: #7a5200; --good-tint: #e3f4e7;
--bad-tint: #fde8e8; --warn-tint: #fdf3dc; }
@media (prefers-color-scheme: dark) { :root { --page: #0e1319; --card: #171f28; --text: #e6eaf0; --soft: #a6b0bd;
--line: #36414e; --first: #74b3ff; --second: #ffab66; --good: #63d684; --bad: #ff9494; --warn: #f2c462;
--good-tint: #14301d; --bad-tint: #3a1a1e; --warn-tint: #352a10; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 0 auto;
max-width: 80rem; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .25rem 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; } h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .5rem 0; } a { color: var(--first); }
:focus-visible { outline: 3px solid var(--first); outline-offset: 2px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; min-width: 0; }
.wide { grid-column: 1 / -1; }
@media (min-width: 50rem) { .double { grid-column: span 2; } .tall { grid-row: span 2; } }
.soft { color: var(--soft); font-size: .9rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.banner { border-left: 6px solid var(--soft); border-radius: 10px; background: var(--card); padding: .75rem 1rem;
margin: 0 0 1rem; font-size: 1.1rem; }
.banner.good { border-color: var(--good); background: var(--good-tint); }
.banner.bad { border-color: var(--bad); background: var(--bad-tint); }
.banner.warn { border-color: var(--warn); background: var(--warn-tint); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .15rem .9rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 0; } figcaption { font-size: .9rem; color: var(--soft); overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; max-width: 40rem; }
img { display: block; border-radius: 4px; } img.pixels { image-rendering: pixelated; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
@media (min-width: 50rem) { .pictures { grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); } }
.pictures img { width: 100%; height: auto; aspect-ratio: 1; object-fit: contain; background: var(--page); }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font-size: .85rem; margin: .5rem 0; }
"""


def html_page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """A whole page. `title` is text, `body` is markup; `style` and `script` are what this page has of its own."""
    allowed = f"script-src 'sha256-{_digest(script)}'; " if script else ""
    policy = (
        f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    tail = f"\n<script>{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{html(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>{tail}\n</body></html>\n"
    )


def write_page(path: Path, page: str) -> None:
    """Write a page. UserError where `path` cannot be that of a file."""
    require_no_folder(path)
    try:
        write_text(path, page)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{path}: no file can be written there ({error.strerror}: {error.filename}).") from None


def require_no_folder(path: Path) -> None:
    """UserError where a page cannot be written to `path`, for what finds that out before it works."""
    if path.is_dir():
        raise UserError(f"{path}: expected the name of a file, got a folder. Name a file in it.")


def card(title: str, *body: str, size: str = "") -> str:
    """A part of the page: `title` is text, `body` is markup. `size`: double or wide, for more than one column."""
    kind = f"card {size}".strip()
    return f'<section class="{kind}"><h2>{html(title)}</h2>{"".join(body)}</section>'


def banner(kind: str, text: str) -> str:
    """What is to be seen first, in a colour beside its words. `kind`: good, bad, warn, or empty."""
    classes = f"banner {kind}".strip()
    return f'<p class="{classes}">{html(text)}</p>'


def facts(rows: Mapping[str, Any]) -> str:
    """Names and values, a line each."""
    return "<dl>" + "".join(f"<dt>{html(name)}</dt><dd>{html(value)}</dd>" for name, value in rows.items()) + "</dl>"


def folded(title: str, *body: str) -> str:
    """What is shown only where somebody asks for it."""
    return f"<details><summary>{html(title)}</summary>{''.join(body)}</details>"


def figure(picture: str, caption: str) -> str:
    """A picture in markup, with a text below it."""
    return f"<figure>{picture}<figcaption>{html(caption)}</figcaption></figure>"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
