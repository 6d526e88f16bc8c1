"""What a person sees of a report at a terminal: columns that are aligned, within its width, and mere text."""

import io
import re

from review.document import Chart, Document, Gallery, Section, Shown, Strong, Table
from review.terminal import show

DOCUMENT = Document(
    "main → the working tree",
    [Strong("Better: accuracy +2.00 points", "good"), Strong("The test set changed: 1 image", "warn")],
    [
        Section("Data", [Gallery("Added", ["image", "class"], [Shown(["cat/\x1b[2J\n0.png", "[red]cat"], None)], 1)]),
        Section("Gate", [Strong("Passed.")]),
        Section("Params", [Table(["param", "base", "head"], [["lr", "0.1", "0.01"], ["猫", "x" * 90, "[red]1"]])]),
        Section(
            "Curves", [Chart("val_loss", {"main": [4.0, 2.0, 1.0], "head\x1b[2J": [float(n) for n in range(120)]})]
        ),
    ],
)


def shown(width: int, **environment: str) -> str:
    stream = io.StringIO()
    show(DOCUMENT, stream, width)
    return stream.getvalue()


def test_columns_fit_the_width() -> None:
    """A long value is folded in its own column; markup and control characters of others are text."""
    text = shown(60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("x") >= 90
    assert "[red]1" in text
    assert "\x1b" not in text
    assert r"head\x1b[2J" in text
    assert "Added: 1 image\n" in re.sub(" +\n", "\n", text)
    assert re.search(r"cat/\\x1b\[2J\\n0.png +\[red\]cat", text)
    rows = [line for line in text.splitlines() if re.match(r" +(param|lr) ", line)]
    assert len({line.index(cell) for line, cell in zip(rows, ("base", "0.1"), strict=True)}) == 1


def test_curves_are_lines_of_blocks_on_one_scale() -> None:
    """Of a long curve, means: 40 blocks at most."""
    lines = shown(120).splitlines()
    (main,) = [line for line in lines if " main " in line]
    (head,) = [line for line in lines if "head" in line and "→" in line and "working" not in line]
    assert main.rstrip().endswith("▁▁▁  4 → 1")
    blocks = re.findall("[▁-█]+", head)[0]
    assert len(blocks) == 40
    assert blocks[0] == "▁"
    assert blocks[-1] == "█"
    assert "val_loss, 0 to 119" in shown(120)
