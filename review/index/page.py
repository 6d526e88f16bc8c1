"""The index as one table: best val accuracy first, and with a script to sort and filter it.

Nothing is sorted by test accuracy: what is chosen by the test split proves nothing on it.
"""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import quote

from review.index.rows import EXPERIMENT, HEAD, TAG, Row, Share
from review.page import facts, folded, html_page
from review.report.command import place
from review.revision import WORKSPACE, Revision
from review.rounding import interval, per_cent
from stages.common.escape import html

_STYLE = """
body { max-width: 100rem; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: 1rem 0 .25rem; }
.controls[hidden] { display: none; }
.controls label { display: flex; gap: .4rem; align-items: center; }
.controls input, .controls select { font: inherit; color: inherit; background: var(--card); border: 1px solid
var(--soft); border-radius: 6px; padding: .25rem .5rem; min-width: 0; max-width: 100%; }
.all { font: inherit; color: var(--first); background: none; border: 0; padding: .25rem; text-decoration: underline;
cursor: pointer; }
::placeholder { color: var(--soft); opacity: 1; }
.box { overflow: auto; max-height: 85vh; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.box { scroll-padding: 4rem 0 0 10rem; }
.box table { border-collapse: separate; border-spacing: 0; min-width: 100%; font-size: .9rem; line-height: 1.35; }
.box td, .box th { padding: .35rem .6rem; }
thead th { position: sticky; top: 0; z-index: 2; background: var(--card); vertical-align: bottom;
overflow-wrap: break-word; max-width: 10rem; }
.box th:first-child { position: sticky; left: 0; background: var(--card); text-align: left; overflow-wrap: anywhere;
width: 14rem; min-width: 9.5rem; max-width: 14rem; border-right: 1px solid var(--line); }
.box thead th:first-child { z-index: 3; }
tbody th:first-child { z-index: 1; }
tr.here > * , .box tr.here > th:first-child { background: var(--good-tint); }
thead button { font: inherit; color: inherit; background: none; border: 0; padding: .2rem 0;
text-align: left; cursor: pointer; } thead th:not([data-first]) { padding-bottom: .55rem; }
thead button::after { content: "↕"; content: "↕" / ""; padding-left: .2em; color: var(--soft); font-weight: 400; }
[aria-sort=ascending] button::after { content: "▲"; content: "▲" / ""; color: inherit; }
[aria-sort=descending] button::after { content: "▼"; content: "▼" / ""; color: inherit; }
.share { min-width: 12.5rem; } .share b { font-variant-numeric: tabular-nums; }
.share small { color: var(--soft); font-size: .85rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
.share p { margin: .1rem 0 0; font-size: .85rem; color: var(--soft); max-width: 24rem; overflow-wrap: anywhere; }
.share p.warn { color: var(--warn); }
.track { position: relative; display: block; height: .5rem; margin: .2rem 0; background: var(--line);
border-radius: 3px; }
.track::before, .track::after { content: ""; position: absolute; top: 0; bottom: 0; background: var(--first); }
.track::before { left: calc(var(--low) * 1%); right: calc(100% - var(--high) * 1%); border-radius: 3px; opacity: .8; }
.track::after { left: calc(var(--value) * 1% - 1.5px); width: 3px; top: -.1rem; bottom: -.1rem;
background: var(--text); }
.track.left::before { clip-path: polygon(0 50%, .5rem 0, 100% 0, 100% 100%, .5rem 100%); }
.track.out::before { right: auto; width: .75rem; clip-path: polygon(0 50%, 100% 0, 100% 100%); }
.track.unmarked::after { display: none; }
.other .track::before { background: var(--soft); }
.nowrap { white-space: nowrap; } .value { overflow-wrap: break-word; max-width: 16rem; }
.params dl { margin-top: .5rem; }
@media (min-width: 50rem) { .params dl { grid-template-columns: repeat(4, auto 1fr); } }
@media (max-width: 50rem) { body { padding: .6rem; } .box th:first-child { width: 8.5rem; max-width: 8.5rem;
min-width: 7rem; } .box td, .box th { padding: .35rem .45rem; } }
"""
_SCRIPT = Path(__file__).with_name("table.js").read_text(encoding="utf-8")
_KINDS = (WORKSPACE, HEAD, TAG, EXPERIMENT)
# Texts of others that are longer are cut, and say so.
_LONGEST_VALUE = 80
_LONGEST_NOTE = 300
# Columns of params; there may be any number of them in a stranger's tag.
_MOST_PARAMS = 40
# So many intervals side by side, of the median width, fit into a bar.
_INTERVALS_SEEN = 8
# As aria-sort has them.
_ASCENDING, _DESCENDING = "ascending", "descending"


class _Column(NamedTuple):
    """`order`: in which the first press of its button sorts it; empty where nothing is sorted by it."""

    title: str
    order: str
    cell: Callable[[Row], str]


class _Scale(NamedTuple):
    """The accuracies at the two ends of all bars."""

    low: float
    high: float

    def place(self, share: float) -> float:
        """In per cent of the bar."""
        return min(100.0, max(0.0, 100 * (share - self.low) / (self.high - self.low)))


class _Params(NamedTuple):
    """`same`: the values that all rows have; `varying`: the names of the others; `more`: those of them without a
    column."""

    same: dict[str, str]
    varying: list[str]
    more: list[str]


def page(rows: Sequence[Row], folder: Path) -> str:
    """The page. `folder`: where it will lie, and beside it the reports that it links to."""
    rows = sorted(rows, key=lambda row: (row.val is None, row.other_val, -_value(row), row.loss, row.name))
    params = _divide({id(row): {name: _text(value) for name, value in row.params.items()} for row in rows if row.val})
    scale = _scale([share for row in rows for share in (row.val, row.test) if share])
    claims = any(row.test for row in rows)
    same_data = {row.data for row in rows if row.val}
    columns = [
        _Column("name", _ASCENDING, lambda row: ""),
        _Column("val accuracy", _DESCENDING, lambda row: _val(row, scale)),
        *([_Column("test accuracy", "", lambda row: _test(row, scale))] if claims else []),
        *(_Column(name, _ASCENDING, partial(_param, name)) for name in params.varying),
        *([_Column("data", _ASCENDING, lambda row: _data(row.data))] if len(same_data) > 1 else []),
        _Column("seconds", _ASCENDING, _seconds),
        _Column("kind", _ASCENDING, lambda row: f"<td>{row.kind}</td>"),
        _Column("commit", _DESCENDING, _commit),
        _Column("report", "", lambda row: _report(row, folder)),
    ]
    shared = params.same | ({"data": next(iter(same_data))[:7]} if len(same_data) == 1 else {})
    head = next(row for row in rows if row.kind == HEAD)
    body = [
        "<h1>Tags and experiments</h1>",
        f"<p>{counted(rows)} of this clone. HEAD is {_named(head)}. Best val accuracy first: of many runs, the best "
        f"looks better than it is. {_about_test(head, claims)}</p>",
        f'<p class="soft">Bars are 95 % intervals, {100 * scale.low:g} to {100 * scale.high:g} %; a pointed end says '
        "that one begins further left. A run without a report gets one beside this page by "
        "<code>python -m review report COMMIT</code>. Made from this clone's Git as it was then: "
        "<code>make index</code> makes it anew.</p>",
        *_shared(shared, params.more),
        _controls([kind for kind in _KINDS if any(row.kind == kind for row in rows)]),
        '<p class="soft"><span role="status"></span> <button type="button" class="all" hidden>show all</button></p>',
        '<div class="box" role="region" aria-label="Tags and experiments" tabindex="0"><table><thead><tr>',
        *(_header(column) for column in columns),
        "</tr></thead><tbody>",
        *(_row(row, columns) for row in rows),
        "</tbody></table></div>",
    ]
    return html_page("Tags and experiments", body, style=_STYLE, script=_SCRIPT)


def _value(row: Row) -> float:
    return row.val.value if row.val else 0.0


def _divide(texts: dict[int, dict[str, str]]) -> _Params:
    found: dict[str, list[str]] = {}
    for values in texts.values():
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    same = {name: values[0] for name, values in found.items() if len(values) == len(texts) and len(set(values)) == 1}
    # What all rows have comes first; where it is the same number, the order is that of params.yaml.
    varying = sorted((name for name in found if name not in same), key=lambda name: -len(found[name]))
    return _Params(same, varying[:_MOST_PARAMS], varying[_MOST_PARAMS:])


def _scale(shares: Sequence[Share]) -> _Scale:
    """From the lowest interval that is not far from the best one, to the best: one run that failed would leave no room
    to see the others apart."""
    if not shares:
        return _Scale(0, 1)
    lows = [share.low for share in shares]
    far = max(lows) - _INTERVALS_SEEN * median(share.high - share.low for share in shares)
    low, high = min(low for low in lows if low >= far), max(share.high for share in shares)
    step = 10 ** math.floor(math.log10(max(high - low, 1e-4))) / 5
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return _Scale(round(max(0.0, low), 6), round(min(1.0, high), 6))


def counted(rows: Sequence[Row]) -> str:
    """How many tags and experiments there are."""
    counts = [(kind, sum(row.kind == kind for row in rows)) for kind in (TAG, EXPERIMENT)]
    return " and ".join(f"{count:,} {kind}{'' if count == 1 else 's'}" for kind, count in counts)


def _about_test(head: Row, claims: bool) -> str:
    if not claims:
        return f"There is no test accuracy: {html(head.unclaimed or 'no model is claimed')}"
    return "Test accuracy is of models that were claimed, and nothing is sorted by it."


def _named(row: Row) -> str:
    assert row.commit is not None
    return f"{row.commit.id[:7]}{f' of {row.commit.date:%Y-%m-%d}' if row.commit.date else ''}"


def _shared(shared: dict[str, str], more: Sequence[str]) -> list[str]:
    parts = []
    if shared:
        listed = facts({name: _cut(value, _LONGEST_VALUE) for name, value in shared.items()})
        title = f"The same in all rows: {len(shared)} params and data"
        parts.append(folded(title, listed))
    if more:
        names = _cut(", ".join(more), _LONGEST_NOTE)
        parts.append(f"<p>{len(more):,} more params differ, and have no column: {html(names)}</p>")
    return [f'<div class="card params">{"".join(parts)}</div>'] if parts else []


def _controls(kinds: Sequence[str]) -> str:
    options = "".join(f'<option value="{kind}">{kind}</option>' for kind in kinds)
    return (
        '<div class="controls" role="search" hidden><label>Filter <input type="search" autocomplete="off" '
        'placeholder="name or lr=0.1"></label>'
        f'<label>Kind <select><option value="">all</option>{options}</select></label></div>'
    )


def _header(column: _Column) -> str:
    sort = f' data-first="{column.order}"' if column.order else ""
    # A name such as weight_decay is wider than its values.
    title = html(_cut(column.title, _LONGEST_VALUE)).replace("_", "_<wbr>")
    now = ' aria-sort="descending"' if column.title == "val accuracy" else ""
    return f'<th scope="col"{sort}{now}>{title}</th>'


def _row(row: Row, columns: Sequence[_Column]) -> str:
    here = ' class="here"' if row.kind in (WORKSPACE, HEAD) else ""
    cells = "".join(column.cell(row) for column in columns)
    whole = f' title="{html(row.name)}"' if len(row.name) > _LONGEST_VALUE else ""
    name = f'<th scope="row"{whole}>{html(_cut(row.name, _LONGEST_VALUE))}</th>'
    return f'<tr data-kind="{row.kind}"{here}>{name}{cells}</tr>'


def _commit(row: Row) -> str:
    if row.commit is None:
        return "<td>—</td>"
    if row.commit.date is None:
        return f"<td><code>{row.commit.id[:7]}</code></td>"
    date = row.commit.date
    return (
        f'<td class="nowrap" data-value="{date.timestamp():.0f}" title="{date:%Y-%m-%d %H:%M} UTC, {row.commit.id}">'
        f"{date:%Y-%m-%d}<br><code>{row.commit.id[:7]}</code></td>"
    )


def _val(row: Row, scale: _Scale) -> str:
    kind = "warn" if row.other_val or row.val is None else ""
    notes = "".join(f'<p class="{kind}">{html(_cut(note, _LONGEST_NOTE))}</p>' for note in row.notes)
    if row.val is None:
        return f'<td class="share" data-value="">{notes}</td>'
    return _share(row.val, scale, notes, other=row.other_val)


def _test(row: Row, scale: _Scale) -> str:
    if row.test is None:
        return f'<td class="share"><p>{html(row.unclaimed)}</p></td>' if row.unclaimed else "<td>—</td>"
    runs = row.chosen_from
    said = (
        "chosen from: not stated" if runs is None else "the only run known" if runs == 1 else f"best of {runs:,} runs"
    )
    return _share(row.test, scale, f"<p>{said}</p>")


def _share(share: Share, scale: _Scale, notes: str, *, other: bool = False) -> str:
    ends = (share.low, share.high)
    exact = f"{share.value:g}, 95 % interval {share.low:g} to {share.high:g}"
    places = dict(zip(("low", "value", "high"), map(scale.place, (share.low, share.value, share.high)), strict=True))
    style = ";".join(f"--{name}:{place:.1f}" for name, place in places.items())
    kinds = "".join(
        name
        for name, place in ((" left", share.low), (" unmarked", share.value), (" out", share.high))
        if place < scale.low
    )
    return (
        f'<td class="share{" other" if other else ""}" data-value="{share.value:g}" title="{exact}"'
        f"{' data-apart' if other else ''}><b>{per_cent(share.value, *ends)}</b> <small>{interval(*ends)}</small>"
        f'<span class="track{kinds}" style="{style}" aria-hidden="true"></span>{notes}</td>'
    )


def _param(name: str, row: Row) -> str:
    if name not in row.params:
        return "<td>—</td>"
    text = _text(row.params[name])
    return f'<td class="value">{html(_cut(text, _LONGEST_VALUE))}</td>'


def _data(digest: str) -> str:
    return f'<td title="{html(digest)}"><code>{html(digest[:7])}</code></td>' if digest else "<td>—</td>"


def _seconds(row: Row) -> str:
    if row.seconds is None:
        return "<td>—</td>"
    return f'<td class="number" data-value="{row.seconds:g}">{row.seconds:,.0f}</td>'


def _report(row: Row, folder: Path) -> str:
    if row.val is None:
        return "<td>—</td>"
    name = place(Revision(row.name, row.commit.id if row.commit else None)).name
    return f'<td><a href="{quote(name)}">report</a></td>' if (folder / name).is_file() else "<td>—</td>"


def _text(value: Any) -> str:
    """A param as params.yaml has it."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str, ensure_ascii=False)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… (the first of {len(text):,} characters)"
