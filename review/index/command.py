"""`python -m review index`: all tags and experiments of this clone on a page that needs no network."""

import argparse
from pathlib import Path

from review.index.page import counted, page
from review.index.rows import collect
from review.page import write_page
from stages.common.escape import terminal

INDEX = Path("reports/index.html")


def main(arguments: argparse.Namespace) -> None:
    """Write the page, and say where it is."""
    rows = collect()
    write_page(arguments.output, page(rows, arguments.output.parent))
    size = f"{arguments.output.stat().st_size / 1000:,.0f} kB"
    print(terminal(f"{'index':18}{arguments.output}, {size}, {counted(rows)}: open it in a browser"))


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review index`."""
    verb.add_argument("--output", type=Path, default=INDEX, metavar="FILE", help=f"default: {INDEX}")
    verb.set_defaults(run=main)
