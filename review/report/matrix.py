"""A confusion matrix in markup: a table of counts for a few classes, a picture of squares for many, a line for more."""

from collections.abc import Mapping, Sequence

from stages.common.escape import html

# Of more, a table is wider than a page.
_MOST_COLUMNS = 20
_SIDE = 400
_MOST_SQUARES = _SIDE


def confusion_matrix(counts: Mapping[tuple[str, str], int], classes: Sequence[str]) -> str:
    """`counts`: images by (actual, predicted). The shade is the share of the actual class."""
    if len(classes) > _MOST_SQUARES:
        return (
            f'<p class="soft">{len(classes):,} classes, of which a matrix would have squares smaller than a pixel.</p>'
        )
    totals = {name: sum(counts.get((name, other), 0) for other in classes) for name in classes}
    if len(classes) <= _MOST_COLUMNS:
        return _table(counts, classes, totals)
    return _squares(counts, classes, totals)


def _table(counts: Mapping[tuple[str, str], int], classes: Sequence[str], totals: Mapping[str, int]) -> str:
    head = "".join(f'<th scope="col">{html(name)}</th>' for name in classes)
    rows = []
    for actual in classes:
        cells = "".join(
            _cell(counts.get((actual, predicted), 0), totals[actual], right=actual == predicted)
            for predicted in classes
        )
        rows.append(f'<tr><th scope="row">{html(actual)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="matrix">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="soft">Rows: actual class; columns: predicted.</p>'
    )


def _cell(count: int, total: int, *, right: bool) -> str:
    if not count:
        return "<td></td>"
    # A text on the tint keeps its contrast: no shade is stronger than 40 %.
    strength = 8 + 32 * count / total
    colour = "--first" if right else "--second"
    return f'<td style="background:color-mix(in srgb, var({colour}) {strength:.0f}%, var(--card))">{count}</td>'


def _squares(counts: Mapping[tuple[str, str], int], classes: Sequence[str], totals: Mapping[str, int]) -> str:
    numbers = {name: number for number, name in enumerate(classes)}
    size = _SIDE / len(classes)
    squares = "".join(
        f'<rect x="{numbers[predicted] * size:.1f}" y="{numbers[actual] * size:.1f}" width="{size:.2f}" '
        f'height="{size:.2f}" fill="var({"--first" if actual == predicted else "--second"})" '
        f'fill-opacity="{0.15 + 0.85 * count / totals[actual]:.2f}"><title>{html(actual)} → {html(predicted)}: {count}'
        "</title></rect>"
        for (actual, predicted), count in sorted(counts.items(), key=lambda item: (item[0][0], item[0][1]))
        if actual in numbers and predicted in numbers
    )
    right = sum(count for (actual, predicted), count in counts.items() if actual == predicted)
    alt = f"{right} of {sum(counts.values())} images lie on the diagonal, where the predicted class is the actual one"
    order = f"Rows: actual class; columns: predicted; {len(classes)} classes in the order of plots/per_class.csv."
    note = f'<p class="soft">{order} {alt}.</p>'
    frame = f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="var(--line)"/>'
    return (
        f'<svg viewBox="-1 -1 {_SIDE + 2} {_SIDE + 2}" role="img" aria-label="{html(alt)}">{frame}{squares}</svg>{note}'
    )
