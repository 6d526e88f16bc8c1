"""`python -m review drift`: the log of a service against what its model was measured on."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from review.browser import page
from review.drift.facts import Drift, compare
from review.drift.render import document_of
from review.markdown import markdown
from review.page import write_page
from review.revision import WORKSPACE, Revision
from review.significance import LEVEL
from review.terminal import show
from stages.common import escape
from stages.common.errors import UserError
from stages.common.files import write_text

# For what runs this every night.
NO_DRIFT, DRIFT, NOT_TOLD = 0, 1, 2
# Of so many draws as the tests make, no p value is much smaller after correction.
_LEAST_LEVEL = 0.001


def main(arguments: argparse.Namespace) -> None:
    """Print the report, to a pipe as Markdown; exit with one of the codes above."""
    try:
        sys.exit(_report(arguments))
    except UserError as error:
        print(f"error: {escape.message(str(error))}", file=sys.stderr)
        sys.exit(NOT_TOLD)


def _report(arguments: argparse.Namespace) -> int:
    inputs = [path for path in (arguments.log, arguments.reference, arguments.labels) if path]
    for path in filter(None, (arguments.html, arguments.markdown)):
        if path.is_dir():
            raise UserError(f"{path}: expected the name of a file, got a folder. Name a file in it.")
        if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
            raise UserError(f"{path}: is read here. Name another file to write to.")
        # The verdict on an earlier log is not to be taken for this one's, whatever happens.
        path.unlink(missing_ok=True)
    revision = Revision.named(arguments.tag, ask_remote=not arguments.offline)
    if revision.commit is None:
        raise UserError(f"drift: {WORKSPACE} is no release. Name the tag, or the commit, that the service runs.")
    drift = compare(
        revision,
        arguments.log,
        level=arguments.level,
        version=arguments.version,
        reference=arguments.reference,
        labelled=arguments.labels,
    )
    document = document_of(drift)
    if arguments.html:
        write_page(arguments.html, page(document))
    if arguments.markdown:
        write_text(arguments.markdown, markdown(document))
    if arguments.json:
        print(json.dumps(_as_json(drift, document.verdict), indent=2))
    elif not arguments.markdown and sys.stdout.isatty():
        show(document, sys.stdout)
    elif not arguments.markdown:
        print(markdown(document), end="")
    return DRIFT if drift.drifted else NO_DRIFT


def _as_json(drift: Drift, verdict: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "verdict": verdict,
        "drift": bool(drift.drifted),
        "level": drift.level,
        "commit": drift.revision.commit,
        "pictures": len(drift.here),
        "reference": {"name": drift.reference.name, "pictures": len(drift.reference)},
        "from": drift.log.first.isoformat(),
        "to": drift.log.last.isoformat(),
        "other_versions": dict(drift.log.others),
        "broken": drift.log.broken,
        "tests": [finding._asdict() for finding in drift.findings],
    }
    if accuracy := drift.accuracy:
        claimed = {"missing": accuracy.claimed} if isinstance(accuracy.claimed, str) else accuracy.claimed._asdict()
        facts["accuracy"] = accuracy.here._asdict() | {"pictures": accuracy.images, "claimed": claimed}
    return facts


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review drift`."""
    verb.add_argument("log", type=Path, metavar="LOG", help="the file that the service writes its answers to")
    verb.add_argument("tag", metavar="TAG", help="the release that the service runs: a tag, or its commit")
    verb.add_argument(
        "--reference",
        type=Path,
        metavar="LOG",
        help="an accepted log of the same version to compare with, sizes too (default: the release's val images)",
    )
    verb.add_argument("--labels", type=Path, metavar="CSV", help="true classes of pictures of the log: id,class")
    verb.add_argument(
        "--version", metavar="NAME", help="what the log calls the release (default: its tags and its commit)"
    )
    verb.add_argument(
        "--level",
        type=share,
        default=LEVEL,
        help="how often chance alone may be called drift; smaller where it is asked often "
        f"(default: {LEVEL}, least: {_LEAST_LEVEL})",
    )
    verb.add_argument("--html", type=Path, metavar="FILE", help="also write a page for a browser")
    verb.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown there and print nothing")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--offline", action="store_true", help="ask no remote for the release's predictions")
    verb.epilog = "exit code: 0 no drift found, 1 drift, 2 nothing can be told: see the message"
    verb.set_defaults(run=main)


def share(text: str) -> float:
    """A share from _LEAST_LEVEL to 1. ValueError, which argparse says by this function's name, where it is none."""
    number = float(text)
    if not _LEAST_LEVEL <= number < 1:
        raise ValueError(text)
    return number
