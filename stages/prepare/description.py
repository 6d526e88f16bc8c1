"""dataset.json: what the arrays, or the shards, of prepared/ are."""

import sqlite3
from typing import Any

from stages.prepare.params import PrepareParams

# So many sums at most are added within SQLite, whose integers have 64 bits.
_TOGETHER = 20


def describe(
    table: sqlite3.Connection,
    counts: dict[str, dict[str, int]],
    params: PrepareParams,
    channels: int,
    digests: dict[str, str],
) -> dict[str, Any]:
    """The content of dataset.json; `counts` are of kept images per split and class, `digests` of the files.

    Mean and standard deviation are of the train split alone, per channel, on the scale 0 to 1, from the squares that
    were made of its images; integer sums make them exact.
    """
    mean, std = _mean_and_std(table, params.side**2, channels)
    return {
        "classes": list(counts["train"]),
        "channels": channels,
        "image_size": params.image_size,
        "stored_size": params.side,
        "resize": params.resize,
        "mean": mean,
        "std": std,
        "counts": counts,
        "sha256": digests,
    }


def _mean_and_std(table: sqlite3.Connection, pixels: int, channels: int) -> tuple[list[float], list[float]]:
    """Per channel, of images of so many pixels each, from exact sums of values of 0 to 255; on the scale 0 to 1."""
    columns = [f"{kind}{channel}" for kind in ("sum", "square") for channel in range(channels)]
    blocks = table.execute(
        f"select count(*), {', '.join(f'sum({column})' for column in columns)} from images "
        f"where status = 'kept' and split = 'train' group by id >> {_TOGETHER}"
    ).fetchall()
    count, *totals = (sum(of_blocks) for of_blocks in zip(*blocks, strict=True))
    number, sums, squares = count * pixels, totals[:channels], totals[channels:]
    mean = [total / (255 * number) for total in sums]
    variance = [(number * square - total**2) / (255 * number) ** 2 for total, square in zip(sums, squares, strict=True)]
    # A constant channel has no spread to divide by; 1/255, one grey level, keeps it finite.
    return [round(value, 8) for value in mean], [round(max(value, 1 / 255**2) ** 0.5, 8) for value in variance]
