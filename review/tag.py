"""A release: an annotated Git tag that says what was reached, and carries the facts for machines.

Its message is a line for people, then one JSON object: commit, data, digests of outputs, the claim and from how many
runs its model was chosen, metrics, params, environment.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

from review import claim, exported, git, store
from review.chosen import chosen_from
from review.freshness import ENVIRONMENT, findings
from review.gate import unpushed
from review.lock import NOT_RESULTS, hashes, params_of
from review.revision import CLAIM, Malformed, Missing, Revision
from review.seeds import METRICS, accuracies, same_recipe, spread
from stages.common import escape
from stages.common.documents import DocumentError, parse_json
from stages.common.errors import UserError, listed

# What a person would say of a run, where the params have it.
_SAID = ("model", "optimizer", "lr", "batch_size", "epochs", "seed")


def main(arguments: argparse.Namespace) -> None:
    """Tag HEAD. UserError where its result is not complete and committed, or the name is taken."""
    name = arguments.name
    head = Revision.named("HEAD")
    require_complete(head, name, local=arguments.local)
    message = tag_message(head)
    git.git("tag", "--annotate", "--cleanup=verbatim", "--message", message, name, "HEAD")
    line, _, _ = message.partition("\n")
    print(escape.terminal(f"{name}: {line}"))
    print(f"`git push origin {name}` publishes it; `python -m review reproduce {name}` checks it on any clone.")


def require_complete(head: Revision, name: str, *, local: bool = False) -> None:
    """UserError, with everything that is in the way, where `head` must not be tagged as `name`.

    `local`: outputs need not be in the remote, only in DVC's cache here.
    """
    problems = []
    if git.git("tag", "--list", name).strip():
        problems.append(f"the tag {name} exists; a release is never changed, so choose another name")
    elif not git.is_valid_tag(name):
        problems.append(f"{name!r} is no name that Git takes; choose one such as v1.0-resnet18-digits")
    changed = git.changed_files()
    if changed:
        problems.append(f"uncommitted: {', '.join(changed)}; commit or remove them")
    problems += [finding.text for finding in [*findings(head), *claim.edited(head)]]
    try:
        claim.fresh_lock(head)
    except Missing as missing:
        problems.append(f"test accuracy: {missing} Then commit {CLAIM}/")
    try:
        exported.fresh_lock(head)
    except Missing as missing:
        problems.append(f"export: {missing}")
    problems += [
        f"{path}: in no cache here; `dvc pull {path}`, or `make repro` and `make export` make it"
        for path in not_in_cache(head)
    ]
    if not local:
        problems += unpushed()
    if problems:
        raise UserError("tag: HEAD is no complete result\n" + listed(problems))


def not_in_cache(head: Revision) -> list[str]:
    """Cached outputs of dvc.lock and export/dvc.lock whose content is not in this clone's cache."""
    outs = hashes(head.lock, "outs") | (hashes(head.export_lock, "outs") if head.export_lock else {})
    return [
        path for path, digest in outs.items() if digest and not head.in_git(path) and not store.cached(digest).exists()
    ]


def tag_message(head: Revision) -> str:
    """A line for people, an empty one, and the facts as JSON."""
    params = params_of(head.lock)
    said = ", ".join(f"{name}={params[name]}" for name in _SAID if name in params)
    chosen = chosen_from(head)
    line = (
        f"test accuracy {_per_cent(head, claim.FIGURES)}, {chosen}, "
        f"with val accuracy {_per_cent(head, METRICS)}; {said}"
    )
    runs = same_recipe(head)
    if len(runs) > 1:
        line += f"; over seeds, val accuracy {spread(accuracies(runs))}"
    facts = {name: read(head) for name, read in _FACTS.items()} | {"chosen_from": chosen.runs}
    return f"{line}\n\n{json.dumps(facts, indent=2, ensure_ascii=False)}\n"


def read_facts(message: str | None) -> dict[str, Any]:
    """The facts in the message of a tag, which may be anybody's; None: it has no message. Raises Malformed."""
    _, _, text = (message or "").partition("\n\n")
    if not text.startswith("{"):
        raise Malformed("made by hand: its message has no JSON, as `python -m review tag` writes it.")
    try:
        facts = parse_json(text.encode())
    except DocumentError as error:
        raise Malformed(f"its message has no JSON that can be read ({error}).") from None
    assert isinstance(facts, dict)
    return facts


def differences(facts: dict[str, Any], revision: Revision) -> list[str]:
    """Which facts of a tag the revision that it names has otherwise. Raises Missing where that has no result or no
    claim."""
    return [name for name, read in _FACTS.items() if facts.get(name) != read(revision)]


def disagreements(tag: Revision) -> Iterator[str]:
    """What the message of a tag says of its commit and is not so, where `tag` is the name of a tag with facts."""
    message = git.tag_message(f"refs/tags/{tag.name}") or ""
    line, _, text = message.partition("\n\n")
    if not text.startswith("{"):
        return  # somebody's own words
    try:
        for name in differences(read_facts(message), tag):
            yield f"the tag's message: {name}: not what its commit has"
        accuracies = f"test accuracy {_per_cent(tag, claim.FIGURES)}, ", f"with val accuracy {_per_cent(tag, METRICS)};"
        if not (line.startswith(accuracies[0]) and accuracies[1] in line):
            yield f"the tag's message: expected {' '.join(accuracies)} as of its commit, got {line}"
    except Missing as missing:
        yield f"the tag's message: {missing}"


def _outputs(head: Revision) -> dict[str, str]:
    outputs = hashes(head.lock, "outs") | hashes(claim.fresh_lock(head), "outs")
    if (export := exported.fresh_lock(head)) is not None:
        outputs |= hashes(export, "outs")
    return {path: digest for path, digest in outputs.items() if path not in NOT_RESULTS}


# What a tag carries of its commit, and any clone reads alike.
_FACTS: dict[str, Callable[[Revision], Any]] = {
    "commit": lambda head: head.commit,
    "data": lambda head: {
        path: digest for path, digest in hashes(head.lock, "deps").items() if head.pointer(path) is not None
    },
    "outputs": _outputs,
    "claim": claim.figures,
    "metrics": lambda head: head.json(METRICS),
    "params": lambda head: params_of(head.lock),
    "environment": lambda head: head.json(ENVIRONMENT),
}


def _per_cent(head: Revision, path: str) -> str:
    accuracy, low, high = (100 * head.number(path, f"accuracy{end}") for end in ("", "_low", "_high"))
    return f"{accuracy:.2f} % ({low:.2f}–{high:.2f}, {round(head.number(path, 'images'))} images)"


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review tag`."""
    verb.add_argument("name", help="such as v1.0-resnet18-digits")
    verb.add_argument("--local", action="store_true", help="do not ask whether the remote has data and weights")
    verb.set_defaults(run=main)
