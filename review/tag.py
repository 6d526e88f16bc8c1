"""A release: an annotated Git tag that says what was reached, and carries the facts for machines.

Its message is a line for people, then one JSON object: commit, data, digests of outputs, metrics, params, environment.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from review import git
from review.comparison import ENVIRONMENT
from review.freshness import findings
from review.gate import unpushed
from review.lock import NOT_RESULTS
from review.revision import Revision
from review.seeds import METRICS, accuracies, same_recipe, spread
from stages.common.errors import UserError

# What a person would say of a run, where the params have it.
_SAID = ("model", "optimizer", "lr", "batch_size", "epochs", "seed")


def main(arguments: argparse.Namespace) -> None:
    """Tag HEAD. UserError where its result is not complete and committed, or the name is taken."""
    name = arguments.name
    head = Revision.named("HEAD")
    require_complete(head, name, local=arguments.local)
    message = tag_message(head)
    git.git("tag", "--annotate", "--cleanup=verbatim", "--message", message, name, "HEAD")
    print(f"{name}: {message.splitlines()[0]}")
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
    problems += [finding.text for finding in findings(head)]
    problems += [f"{path}: in no cache here; `dvc pull {path}` or `dvc repro`" for path in not_in_cache(head)]
    if not local:
        problems += unpushed()
    if problems:
        raise UserError("tag: HEAD is no complete result\n" + "\n".join(f"  {problem}" for problem in problems))


def not_in_cache(head: Revision) -> list[str]:
    """Cached outputs of dvc.lock whose content is not in this clone's cache."""
    from review.revision import repository

    cache = Path(repository().cache.local.path)
    tracked = {out["path"]: out["md5"] for stage in head.lock["stages"].values() for out in stage.get("outs", [])}
    return [
        path
        for path, digest in tracked.items()
        if git.show("HEAD", path) is None and not (cache / digest[:2] / digest[2:]).exists()
    ]


def tag_message(head: Revision) -> str:
    """A line for people, an empty one, and the facts as JSON."""
    metrics = head.json(METRICS)
    environment = head.json(ENVIRONMENT)
    params: dict[str, Any] = {}
    for stage in head.lock["stages"].values():
        params |= stage.get("params", {}).get("params.yaml", {})
    said = ", ".join(f"{name}={params[name]}" for name in _SAID if name in params)
    low, high = (100 * metrics[f"accuracy_{end}"] for end in ("low", "high"))
    line = f"test accuracy {100 * metrics['accuracy']:.2f} % ({low:.2f}–{high:.2f}, {metrics['images']} images), {said}"
    runs = same_recipe(head)
    if len(runs) > 1:
        line += f"; over seeds {spread(accuracies(runs))}"
    facts = {
        "commit": head.commit,
        "data": {
            dep["path"]: dep["md5"]
            for stage in head.lock["stages"].values()
            for dep in stage.get("deps", [])
            if git.show("HEAD", f"{dep['path']}.dvc") is not None
        },
        "outputs": {
            out["path"]: out["md5"]
            for stage in head.lock["stages"].values()
            for out in stage.get("outs", [])
            if out["path"] not in NOT_RESULTS
        },
        "metrics": metrics,
        "params": params,
        "environment": environment,
    }
    return f"{line}\n\n{json.dumps(facts, indent=2, ensure_ascii=False)}\n"


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of `python -m review tag`."""
    verb.add_argument("name", help="such as v1.0-resnet18-digits")
    verb.add_argument("--local", action="store_true", help="do not ask whether the remote has data and weights")
    verb.set_defaults(run=main)
