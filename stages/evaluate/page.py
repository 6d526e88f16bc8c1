"""The page that a person opens first: one HTML file of the run, with its pictures inside and nothing from a network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.common.escape import html
from stages.common.files import write_text

# Of every page of this project.
STYLE = """
:root { color-scheme: light dark; --line: #8884; --card: #fff; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
.headline { font-size: 1.25rem; } .headline b { font-size: 2rem; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .8; }
img { max-width: 100%; height: auto; background: var(--card); border-radius: 4px; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top;
border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre, .scroll { overflow-x: auto; }
"""


class Picture(NamedTuple):
    """A PNG file, what it is called, and what a person who does not see it is told."""

    path: Path
    title: str
    alt: str


def write_page(
    path: Path,
    *,
    model: str,
    metrics: Mapping[str, float],
    pictures: Sequence[Picture],
    data: str,
    tables: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the page. `data`: the summary of prepare; `tables`: title → rows of name and value."""
    sections = [
        f"<h1>{html(model)}</h1>",
        f'<p class="headline">Val accuracy <b>{metrics["accuracy"]:.4f}</b>, 95 % interval '
        f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f} (Wilson), {metrics['images']} images; "
        f"naming the largest class for each would reach {metrics['majority_accuracy']:.4f}</p>",
        _table("Val images", {name.replace("_", " "): value for name, value in metrics.items()}),
        *(_picture(picture) for picture in pictures),
        f"<h2>Data</h2><pre>{html(data)}</pre>",
        *(_table(title, rows) for title, rows in tables.items()),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html(model)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )
    write_text(path, page)


def _picture(picture: Picture) -> str:
    content = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    return (
        f"<h2>{html(picture.title)}</h2><figure>"
        f'<img alt="{html(picture.alt)}" src="data:image/png;base64,{content}">'
        f"<figcaption>{html(picture.alt)}</figcaption></figure>"
    )


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = []
    for name, value in rows.items():
        number = ' class="number"' if isinstance(value, int | float) and not isinstance(value, bool) else ""
        lines.append(f"<tr><th>{html(name)}</th><td{number}>{html(value)}</td></tr>")
    return f"<h2>{html(title)}</h2><table>{''.join(lines)}</table>"
