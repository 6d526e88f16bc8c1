"""`python -m review diff`: two revisions side by side, for a terminal, in Markdown, HTML or JSON."""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from review import gate, git
from review.browser import page
from review.chosen import Chosen
from review.comparison import Classes, Diff, Seeds, Turned, compare
from review.corrected import Corrected
from review.data_changes import DataChanges, ImageChange
from review.markdown import markdown
from review.render import document_of
from review.revision import WORKSPACE, Revision
from review.significance import ModelComparison, RecipeComparison
from review.terminal import show
from stages.common.files import write_text


def main(arguments: argparse.Namespace) -> None:
    """Print the comparison, to a pipe as Markdown; with --gate, exit with 1 and the reasons where it must not go in."""
    git.require_merged()
    head = Revision.named(arguments.head, ask_remote=not arguments.offline)
    if arguments.base:
        base = Revision.named(arguments.base, ask_remote=not arguments.offline)
    else:
        branch = git.main_branch()
        base = Revision.named(git.merge_base(branch, head.commit or "HEAD"), ask_remote=not arguments.offline)
    diff = compare(base, head)
    reasons = gate.reasons(diff, arguments.allow, check_remote=not arguments.offline) if arguments.gate else None
    document = document_of(diff, reasons)
    for path, text in ((arguments.html, page), (arguments.markdown, markdown)):
        if path:
            write_text(path, text(document))
    if arguments.json:
        print(json.dumps(_as_json(diff, document.verdict, reasons), indent=2, default=str))
    elif not arguments.markdown and sys.stdout.isatty():
        show(document, sys.stdout)
    elif not arguments.markdown:
        print(markdown(document), end="")
    if reasons is not None:
        gate.conclude(reasons)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review diff`."""
    verb.add_argument("base", nargs="?", help="revision or experiment (default: where HEAD left the main branch)")
    verb.add_argument("head", nargs="?", default=WORKSPACE, help=f"revision or experiment (default: {WORKSPACE})")
    verb.add_argument("--html", type=Path, metavar="FILE", help="also write a page for a browser")
    verb.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown there and print nothing")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--gate", action="store_true", help="exit with 1, and say why, where HEAD must not go in")
    verb.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KIND[,KIND]=REASON",
        help=f"with --gate: let kinds pass, for a reason that the report shows; kinds: {', '.join(gate.KINDS)}",
    )
    verb.add_argument("--offline", action="store_true", help="ask no remote: neither for data nor for what it has")
    verb.set_defaults(run=main)


def _as_json(diff: Diff, verdict: str, reasons: "list[gate.Reason] | None") -> dict[str, Any]:
    """The same facts as JSON; a part that could not be read is `{"missing": why}`."""
    parts: dict[str, Any] = {"verdict": verdict}
    for name, value in vars(diff).items():
        match value:
            case str():
                parts[name] = {"missing": value}
            case Revision():
                parts[name] = {"name": value.name, "commit": value.commit}
            case DataChanges():
                pairs = {kind: _pairs(getattr(value, kind)) for kind in ("relabelled", "resplit")}
                images = [_image(one) for one in value.images]
                parts[name] = vars(value) | pairs | {"test": value.test._asdict(), "images": images}
            case Classes():
                parts[name] = {"base": value.old, "head": value.new}
            case Seeds():
                metrics = {metric: _plain(found) for metric, found in value.metrics.items()}
                comparison = _plain(value.comparison)
                parts[name] = {"base": value.old, "head": value.new, "comparison": comparison, "metrics": metrics}
            case Chosen():
                parts[name] = {"known": value.known, "stated": value.stated}
            case ModelComparison():
                parts[name] = _plain(value)
            case list() if name == "malformed":
                parts[name] = value
            case list() if name == "corrections":
                parts[name] = [_correction(one) for one in value]
            case Turned():
                parts[name] = [one._asdict() for one in value.images]
            case list():
                parts[name] = [vars(finding) for finding in value]
            case dict() if name == "code":
                parts[name] = value
            case _:
                parts[name] = {key: {"base": old, "head": new} for key, (old, new) in value.items()}
    return parts if reasons is None else parts | {"gate": [vars(reason) for reason in reasons]}


def _image(change: ImageChange) -> dict[str, Any]:
    sides = {"base": change.old, "head": change.new}
    return {"sha256": change.sha256} | {
        name: side and {"class": side.label, "split": side.split, "paths": sorted(side.paths)}
        for name, side in sides.items()
    }


def _correction(one: Corrected) -> dict[str, Any]:
    sides = {"base": one.old, "head": one.new}
    return {"sha256": one.said.sha256, "path": one.said.path} | {
        name: side and {"decision": side.decision, "class": side.label, "reason": side.reason}
        for name, side in sides.items()
    }


def _plain(comparison: ModelComparison | RecipeComparison | None) -> dict[str, Any] | None:
    return dataclasses.asdict(comparison) | {"significant": comparison.significant} if comparison else None


def _pairs(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"from": old, "to": new, "images": images} for (old, new), images in counts.items()]
