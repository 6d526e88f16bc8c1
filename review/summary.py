"""`python -m review summary`: the result in the workspace in a few lines, and whether it is the committed one.

What it says of files, it reads from the files: each output that dvc.lock names is hashed as DVC hashes it, which does
not read unchanged ones again. Exit code 1 where one is missing or was edited: then the workspace holds no result. Exit
code 0 for a result that is identical, that differs from the committed one, or that is stale: those are honest.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from review import claim, git
from review.comparison import CURVES, ENVIRONMENT
from review.freshness import findings
from review.lock import NOT_RESULTS, compare, hashes
from review.revision import WORKSPACE, Malformed, Missing, Revision, require_relative
from review.seeds import METRICS, accuracies, same_recipe, spread
from review.store import repository
from stages.common import escape
from stages.common.errors import UserError, listed
from stages.common.versions import data_version

TRAIN = "metrics/train.json"
_SHOWN = 8
_REASONS_SHOWN = 3
_INDENT = f"\n{'':18}"


class Files(NamedTuple):
    """Of the outputs that dvc.lock names: those that are not in the workspace, and those that are not what the run
    wrote."""

    missing: list[str]
    edited: list[str]

    @property
    def whole(self) -> bool:
        return not self.missing and not self.edited


def print_summary(*_: object) -> None:
    """Print val and test accuracy, where to look, and whether the outputs equal those of the committed dvc.lock.

    UserError, after that, where an output is missing or was edited; at once, where there is no dvc.lock.
    """
    workspace = Revision.named(WORKSPACE)
    if not Path("dvc.lock").exists():
        data_version()  # without images, there is nothing that could be run
    recorded = hashes(workspace.lock, "outs")
    # DVC checks the files that describe the stages.
    files = check_files(recorded)
    claimed = check_files(hashes(workspace.claim_lock, "outs") if workspace.claim_lock else {})
    stale = [finding.text for finding in findings(workspace) if finding.kind != "output"]
    rows = {"val accuracy": _figures(METRICS, claim.accuracy_text, files)}
    rows["best epoch"] = _figures(TRAIN, lambda metrics: str(int(metrics["best_epoch"])), files)
    rows["test accuracy"] = claim.said(workspace)
    if _is_here(CURVES, recorded, files):
        rows["curves"] = f"{CURVES}; `dvc plots show` draws them"
    if stale:
        reasons = _some(stale, "; ", _REASONS_SHOWN)
        rows["stale"] = f"dvc.lock is not the result of what is here; `make repro` runs it again: {reasons}"
    rows["committed result"] = committed_result(workspace, files, is_stale=bool(stale))
    if files.whole:
        rows |= _over_seeds(workspace)
    print()
    for name, text in rows.items():
        print(escape.message(f"{name:18}{text}"), flush=True)
    if not (files.whole and claimed.whole):
        raise UserError(_what_is_wrong(files, claimed))


def check_files(recorded: Mapping[str, str]) -> Files:
    """Hash the workspace's outputs, and compare with what dvc.lock recorded of them. UserError where DVC cannot."""
    from dvc.exceptions import DvcException

    try:
        outs = {os.path.relpath(out.fs_path): out for out in repository().index.outs}
        for path in recorded:
            _require_inside(path)
        missing = [path for path in recorded if not Path(path).exists()]
        edited = [
            path
            for path, digest in recorded.items()
            # An output that dvc.yaml no longer declares makes dvc.lock stale.
            if path in outs and path not in missing and outs[path].get_hash().value != digest
        ]
    except DvcException as error:
        raise UserError(
            f"DVC cannot read this project's stages: {error} (`dvc status` says more). Mend that, then run again."
        ) from None
    return Files(missing, edited)


def _require_inside(path: str) -> None:
    """Malformed where an output lies outside of the project, also through a link; DVC's cache excepted."""
    require_relative(path, f"{WORKSPACE}'s dvc.lock")
    cache = Path(repository().cache.local.path).resolve()
    if not any(Path(path).resolve().is_relative_to(place) for place in (Path.cwd().resolve(), cache)):
        raise Malformed(f"{path}: expected an output inside the project, got a link to another place. Remove the link.")


def committed_result(workspace: Revision, files: Files, *, is_stale: bool) -> str:
    """How the workspace's outputs compare with those of HEAD's dvc.lock, byte for byte."""
    if git.show("HEAD", "dvc.lock") is None:
        return "none in HEAD to compare with; commit dvc.lock, metrics/ and plots/"
    try:
        comparison = compare(Revision.named("HEAD").lock, workspace.lock)
    except Missing as missing:
        return f"not comparable: {missing}"
    count = len(comparison.outputs)
    if comparison.different_outputs:
        different = comparison.different_outputs
        text = f"different in {len(different)} of {count} outputs: {_some(different)}"
        if comparison.different_inputs:
            keep = "to keep it, `git add . && git commit`: dvc.lock, metrics and plots together"
            return f"{text}{_INDENT}because these differ: {_some(comparison.different_inputs)}{_INDENT}{keep}"
        return f"{text}{_INDENT}with the same code, data and params: {_machines(workspace)}"
    if not files.whole:
        absent, edited = (len(set(paths) - NOT_RESULTS) for paths in files)
        return f"the same dvc.lock, but of its {count} outputs {absent} are missing here, and {edited} were edited"
    if is_stale:
        return f"the same {count} outputs, which are stale"
    return f"identical byte for byte ({count} of {count} outputs)"


def _figures(path: str, text: Callable[[dict[str, Any]], str], files: Files) -> str:
    """What a metrics file says, if it is what the run wrote."""
    if path in files.missing or path in files.edited:
        return f"not known: {path} {'is missing' if path in files.missing else 'is not what the run wrote'}"
    try:
        figures: str = text(Revision.named(WORKSPACE).json(path))
    except Missing as missing:
        return f"not known: {missing}"
    except (KeyError, TypeError, ValueError):
        return f"not known: {path} does not have it"
    return f"{figures}, as recorded; the outputs are not all here" if files.missing else figures


def _is_here(path: str, recorded: Mapping[str, str], files: Files) -> bool:
    return path in recorded and path not in files.missing and path not in files.edited


def _over_seeds(workspace: Revision) -> dict[str, str]:
    try:
        runs = same_recipe(workspace)
        return {"over seeds": f"val accuracy {spread(accuracies(runs))}"} if len(runs) > 1 else {}
    except (Missing, KeyError):
        return {}  # what is missing is said beside the val accuracy


def _machines(workspace: Revision) -> str:
    """What differs between the environments of the committed run and this one."""
    try:
        old, new = (revision.json(ENVIRONMENT) for revision in (Revision.named("HEAD"), workspace))
    except Missing as missing:
        return f"the machines cannot be compared: {missing}"
    different = [
        f"{key}: {_shown(old.get(key))} → {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if old.get("arithmetic") == new.get("arithmetic") == "portable":
        facts = f" The machine differs: {_some(different)}." if different else ""
        return f"both runs record portable arithmetic, so that must not happen; please report it.{facts}"
    if not different:
        return f"and {ENVIRONMENT} names the same machine. That should not happen; please report it"
    return "the machine differs: " + _some(different)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _what_is_wrong(files: Files, claimed: Files) -> str:
    parts = []
    if files.missing:
        parts.append(f"not made here yet, `make repro` makes them:\n{listed(files.missing)}")
    if files.edited:
        parts.append(f"edited, not what the run wrote; `make repro` makes them again:\n{listed(files.edited)}")
    if not claimed.whole:
        lost = listed([*claimed.missing, *claimed.edited])
        parts.append(f"missing or edited, not what the claim's run wrote; `git checkout claim` restores it:\n{lost}")
    return "summary: the workspace does not hold the result that dvc.lock records\n" + "\n".join(parts)


def _some(items: list[str], separator: str = ", ", shown: int = _SHOWN) -> str:
    more = len(items) - shown
    return separator.join(map(escape.terminal, items[:shown])) + (f" and {more} more" if more > 0 else "")
