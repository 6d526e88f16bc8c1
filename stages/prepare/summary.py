"""What prepare found, in words and figures: images of each split and class, their sizes, and what may harm a result."""

import sqlite3

from stages.prepare import corrections, near_duplicates
from stages.prepare.layouts import RawData
from stages.prepare.params import PrepareParams
from stages.prepare.picture import FEW_LEVELS
from stages.prepare.sizes import MOST_CROPPED, MUCH_CROPPED, Sizes, measure_sizes
from stages.prepare.table import SPLITS

# What the statuses other than kept mean.
_LEFT_OUT = {
    "duplicate": "the same pixels as another image of the split",
    "leaked": "of train or val, with pixels that val or test holds too",
    "corrupt": "not whole images",
    "conflict": "the same pixels under several classes",
    "unlisted": "without a row in labels.csv",
}
# Of more classes, only the largest and the smallest are shown.
_MOST_CLASSES = 20
_AT_EACH_END = 5
# Rules of thumb, beyond which there is a warning.
_MOST_SHRINKING = 4
_FEWEST = {"train": 20, "test": 5}
_MOST_IMBALANCE = 10


def summarize(
    table: sqlite3.Connection, data: RawData, counts: dict[str, dict[str, int]], params: PrepareParams
) -> tuple[dict[str, int | float], str]:
    """The content of metrics/prepare.json and of summary.txt. Nothing that was left out or changed is passed over.

    `counts`: kept images per split and class.
    """
    sizes = measure_sizes(
        table.execute("select width, height, count(*) from images where status = 'kept' group by 1, 2").fetchall(),
        params.side,
        params.resize,
    )
    near, near_lines = near_duplicates.summarize(table)
    corrected, corrected_lines = corrections.summarize(table)
    figures = _figures(table, data, counts, sizes, near) | corrected
    lines = [
        f"{split:5} {figures[f'{split}_images']:7} images ({figures[f'{split}_fraction']:.1%}), "
        f"{min(counts[split].values())} or more of each class"
        for split in SPLITS
    ]
    lines += [f"left out: {figures[status]} {words}" for status, words in _LEFT_OUT.items() if figures[status]]
    if figures["files"] == sum(sum(counts[split].values()) for split in SPLITS):
        lines.append("left out: none")
    lines += corrected_lines + near_lines
    notes = table.execute(
        "select note, count(*) from images where status = 'kept' and note != '' group by 1 order by 1"
    ).fetchall()
    lines += [f"changed: {number} images, {note}" for note, number in notes]
    lines += size_lines(sizes)
    warnings = size_warnings(sizes, params.side, params.resize) + class_warnings(counts)
    if narrow := sum(number for note, number in notes if FEW_LEVELS in note):
        warnings.append(
            f"{narrow} images of 16 bits use a small part of their range, as those of 12-bit cameras do, and lose "
            "nearly all levels; scale their values to 0 to 65535 (of 12 bits: times 16)"
        )
    lines += [f"warning: {warning}" for warning in warnings]
    lines += class_table(counts)
    return figures, "".join(f"  {line}\n" for line in lines)


def _figures(
    table: sqlite3.Connection, data: RawData, counts: dict[str, dict[str, int]], sizes: Sizes, near: int
) -> dict[str, int | float]:
    statuses = dict(table.execute("select status, count(*) from images group by 1"))
    of_split = {split: sum(counts[split].values()) for split in SPLITS}
    of_class = [sum(counts[split][label] for split in SPLITS) for label in data.classes]
    return {
        "files": sum(statuses.values()),
        **{status: statuses.get(status, 0) for status in _LEFT_OUT},
        "near_duplicates": near,
        "classes": len(data.classes),
        "smallest_class": min(of_class),
        "largest_class": max(of_class),
        "median_width": sizes.sizes[1][0],
        "median_height": sizes.sizes[1][1],
        **{f"{split}_images": size for split, size in of_split.items()},
        **{f"{split}_fraction": round(size / statuses["kept"], 6) for split, size in of_split.items()},
    }


def size_lines(sizes: Sizes) -> list[str]:
    """Sizes and aspect ratios, a line each."""
    least, median, most = (f"{width}×{height}" for width, height in sizes.sizes)
    ratios = [f"{ratio:.2f}" for ratio in sizes.ratios]
    return [
        f"size: {median} pixels (median; {least} to {most})",
        f"aspect ratio: {ratios[1]} (median; {ratios[0]} to {ratios[2]})",
    ]


def size_warnings(sizes: Sizes, side: int, resize: str) -> list[str]:
    """What squares of `side` pixels lose or make up."""
    found = []
    if sizes.shrinking > _MOST_SHRINKING:
        found.append(
            f"the median image is shrunk {sizes.shrinking:.1f}-fold to {side}; a larger image_size keeps "
            "more details and takes longer"
        )
    if sizes.enlarged:
        found.append(f"{sizes.enlarged:.1%} of the images are smaller than {side} pixels, and are enlarged")
    if resize == "crop" and sizes.cropped > MOST_CROPPED:
        found.append(
            f"`resize: crop` cuts more than {MUCH_CROPPED:.0%} off {sizes.cropped:.1%} of the images; `pad` and "
            "`squash` cut nothing"
        )
    return found


def class_warnings(counts: dict[str, dict[str, int]]) -> list[str]:
    """Classes with too few images to be learned or measured well, and very unequal ones."""
    found = []
    for split, fewest in _FEWEST.items():
        small = [f"{label} ({number})" for label, number in counts[split].items() if number < fewest]
        if small:
            shown = ", ".join(small[:_AT_EACH_END])
            more = f" and {len(small) - _AT_EACH_END} more" if len(small) > _AT_EACH_END else ""
            found.append(f"{len(small)} classes have fewer than {fewest} {split} images: {shown}{more}")
    ordered = sorted((number, label) for label, number in counts["train"].items())
    (least, smallest), (most, largest) = ordered[0], ordered[-1]
    if most > _MOST_IMBALANCE * least:
        found.append(f"{largest} has {most / least:.0f} times as many train images as {smallest}")
    return found


def class_table(counts: dict[str, dict[str, int]]) -> list[str]:
    """Images of each class, a column for each key of `counts`; of many classes, of the largest and the smallest."""
    classes = next(iter(counts.values()))
    total = {label: sum(of_class[label] for of_class in counts.values()) for label in classes}
    rows = [[label, *(str(of_class[label]) for of_class in counts.values())] for label in total]
    if len(rows) > _MOST_CLASSES:
        rows.sort(key=lambda row: -total[row[0]])
        hidden = len(rows) - 2 * _AT_EACH_END
        rows[_AT_EACH_END:-_AT_EACH_END] = [[f"… and {hidden} more"]]
    rows.insert(0, ["class", *counts])
    width = max(len(row[0]) for row in rows)
    return ["".join([f"{row[0]:{width}}", *(f" {cell:>7}" for cell in row[1:])]).rstrip() for row in rows]
