"""`python -m review data`: what to mend in images and labels, on a page that needs no network, reports/data.html.

With --unlabelled, which pictures of a folder to label first: reports/labelling.csv.
"""

import argparse
import sys
from functools import cache

from review.comparison import predictions
from review.data import features
from review.data.decided import undecided
from review.data.findings import Picture
from review.data.labelling import most_useful, write_labelling
from review.data.lists import write_suspects
from review.data.look import look
from review.data.options import LABELLING
from review.data.page import page
from review.data.sheet import Draw
from review.data.terminal import lines
from review.page import require_no_folder, write_page
from review.report.command import REPORTS
from review.revision import WORKSPACE, Missing, Revision
from review.thumbnails import Thumbnails
from stages.common import corrections
from stages.common.escape import terminal

SUSPECTS = REPORTS / "suspects.csv"
# Of the SHA-256 of an image's pixels, that predictions have at least.
_DIGITS = 16


def main(arguments: argparse.Namespace) -> None:
    """Write the page or the order, and say the most important of it."""
    require_no_folder(arguments.output)
    found = features.read()
    if arguments.unlabelled is not None:
        _write_order(found, features.read_unlabelled(arguments.unlabelled), arguments.first)
        return
    revision = Revision.named(WORKSPACE)
    decided = corrections.read(corrections.FILE, missing_is_empty=True)
    findings = look(found, _val_answers(revision, found) if found.own_model else None, _tell)
    findings = undecided(findings, {one.sha256 for one in decided})
    for name, said in lines(findings):
        _say(name, said)
    write_suspects(SUSPECTS, findings)
    _say("all of it", str(SUSPECTS))
    made = page(
        findings,
        _drawer(revision),
        [(one.path, one.sha256, one.decision, one.label, one.reason) for one in decided],
        manifest=found.about["manifest_sha256"],
        everything=str(SUSPECTS),
    )
    write_page(arguments.output, made.text)
    size = f"{arguments.output.stat().st_size / 1000:,.0f} kB"
    cut = [f"{shown:,} of {total:,} {name.lower()}" for name, (shown, total) in made.shown.items() if shown < total]
    _say("page", ", ".join([str(arguments.output), size, *cut]) + ": open it in a browser")


def _write_order(labelled: features.Features, unlabelled: features.Features, most: int) -> None:
    useful = most_useful(labelled, unlabelled, most)
    write_labelling(LABELLING, useful)
    pictures = f"the {len(useful):,} most useful of {len(unlabelled.images):,} pictures"
    _say("labelling order", f"{LABELLING}: {pictures}, the most useful first")


def _val_answers(revision: Revision, found: features.Features) -> dict[str, str] | None:
    """What the project's model says of its val images, by the SHA-256 of their pixels; None where that is not there."""
    try:
        answers = {image[:_DIGITS]: answer.predicted for image, answer in predictions(revision).items()}
    except Missing as missing:
        _say("val answers", str(missing))
        return None
    said = {image.sha256: answers.get(image.sha256[:_DIGITS]) for image in found.images}
    return {sha256: answer for sha256, answer in said.items() if answer is not None}


def _drawer(revision: Revision) -> Draw:
    """Pictures out of the arrays of the working tree, each of which is opened when one of it is drawn."""
    opened = cache(lambda split: Thumbnails(revision, split))

    def draw(picture: Picture, side: int) -> str:
        thumbnails: Thumbnails = opened(picture.split)
        place = thumbnails.place(picture.sha256)
        if place is None:
            raise Missing(f"prepared/: {picture.path} is not in {picture.split}. `make look` looks at what is there.")
        return thumbnails.uri(place, side)

    return draw


def _tell(what: str) -> None:
    print(terminal(f"{'look':18}{what}"), file=sys.stderr)


def _say(name: str, said: str) -> None:
    print(terminal(f"{name:18}{said}"))
