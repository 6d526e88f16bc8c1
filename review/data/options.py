"""The options of `python -m review data`."""

import argparse
from pathlib import Path

from review.report.command import REPORTS

PAGE = REPORTS / "data.html"
LABELLING = REPORTS / "labelling.csv"
_FIRST = 100


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review data`."""
    verb.add_argument("--output", type=Path, default=PAGE, metavar="FILE", help=f"default: {PAGE}")
    verb.add_argument(
        "--unlabelled",
        type=Path,
        metavar="FOLDER",
        help=f"write to {LABELLING} which of its pictures to label first, after "
        "`python -m stages.look --unlabelled FOLDER`",
    )
    verb.add_argument("--first", type=count, default=_FIRST, metavar="N", help=f"so many of them (default: {_FIRST})")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    # The search and its page, which no other verb needs: a tenth of the time that each takes to start.
    from review.data.command import main

    main(arguments)


def count(text: str) -> int:
    """One or more. ValueError, which argparse says by this function's name, where it is none."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number
