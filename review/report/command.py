"""`python -m review report`: one run on a page that needs no network, reports/report.html."""

import argparse
from pathlib import Path

from review.page import banner, html_page, write_page
from review.report import cards
from review.report.facts import Facts, collect
from review.revision import WORKSPACE, Revision
from review.thumbnails import Thumbnails
from stages.common.escape import html, terminal

REPORTS = Path("reports")
WORKSPACE_REPORT = REPORTS / "report.html"


def main(arguments: argparse.Namespace) -> None:
    """Write the page, and say where it is."""
    revision = Revision.named(arguments.revision)
    path = arguments.output or place(revision)
    write_page(path, draw(collect(revision), cards.Pictures(lambda split: Thumbnails(revision, split))))
    print(terminal(f"{'report':18}{path}: open it in a browser"))


def place(revision: Revision) -> Path:
    """Where the page of a revision is written: a name of somebody's branch becomes one of a file here."""
    if revision.commit is None:
        return WORKSPACE_REPORT
    return REPORTS / f"{revision.commit[:12]}.html"


def draw(run: Facts, pictures: cards.Pictures) -> str:
    """The page."""
    task = "" if isinstance(run.classes, str) else f" for {len(run.classes)} classes"
    model = f"{run.params.get('model', 'A model')}{task}"
    grid = [
        cards.mistakes(run, pictures),
        cards.per_class(run),
        cards.calibration(run),
        cards.params(run),
        cards.confusion(run),
        cards.machine(run),
        cards.training(run),
        cards.data(run, pictures),
    ]
    body = [f"<h1>{html(model)}</h1>", *_stale(run), cards.answers(run), f'<div class="grid">{"".join(grid)}</div>']
    return html_page(model, body, style=cards.STYLE)


def _stale(run: Facts) -> list[str]:
    if not run.stale:
        return []
    return [banner("bad", f"Not the result of what is there: {'; '.join(run.stale[:3])}. `make repro` runs it again.")]


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review report`."""
    verb.add_argument("revision", nargs="?", default=WORKSPACE, help=f"revision or experiment (default: {WORKSPACE})")
    verb.add_argument(
        "--output", type=Path, metavar="FILE", help=f"default: {WORKSPACE_REPORT}, or reports/COMMIT.html"
    )
    verb.set_defaults(run=main)
