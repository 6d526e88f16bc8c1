"""What must not go in: `python -m review diff --gate`."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from review.comparison import Diff
from review.significance import ModelComparison
from stages.common.errors import UserError

KINDS = {
    "stale": "dvc.lock is not the result of code, params, data or packages",
    "edited": "a file in Git is not what the run wrote",
    "no-result": "code or params changed, but nothing was run",
    "unpushed": "an output is in no remote",
    "loss": "the model is significantly worse",
    "unknown": "whether the model is worse cannot be told",
}


@dataclass(frozen=True)
class Reason:
    """Why a revision must not go in; `allowed`: the stated reason why it may nevertheless."""

    kind: str
    text: str
    allowed: str = ""


def reasons(diff: Diff, allow: Sequence[str], *, check_remote: bool) -> list[Reason]:
    """All reasons against `diff.head`. UserError where `allow` names a kind that does not exist, or gives no reason."""
    allowed = {kind: reason for text in allow for kind, reason in _exceptions(text)}
    found: list[Reason] = []
    for finding in diff.stale:
        kind = {"output": "edited", "stage": "no-result"}.get(finding.kind, "stale")
        found.append(Reason(kind, finding.text))
    if isinstance(diff.model, ModelComparison):
        if diff.model.significant and diff.model.difference < 0:
            found.append(
                Reason(
                    "loss",
                    f"accuracy {diff.model.old:.4f} → {diff.model.new:.4f} on {diff.model.images} common test images, "
                    f"p = {diff.model.p_value:.2g}",
                )
            )
    else:
        found.append(Reason("unknown", diff.model))
    recipes = None if isinstance(diff.seeds, str) else diff.seeds.comparison
    if recipes and recipes.significant and recipes.difference < 0:
        found.append(Reason("loss", f"the mean accuracy over seeds is lower, p = {recipes.p_value:.2g}"))
    if check_remote:
        found += [Reason("unpushed", text) for text in unpushed()]
    return [Reason(one.kind, one.text, allowed.get(one.kind, "")) for one in found]


def conclude(found: Sequence[Reason]) -> None:
    """End with exit code 1 where a reason is not allowed; the reasons go to stderr too, for a log."""
    refused = [reason for reason in found if not reason.allowed]
    if refused:
        raise UserError(
            f"gate: {len(refused)} reason{'s' if len(refused) > 1 else ''} against\n"
            + "\n".join(f"  {reason.kind}: {reason.text}" for reason in refused)
            + "\nMend them, or state an exception: --allow 'KIND=why it may go in'."
        )
    print("gate: passed", file=sys.stderr)


def unpushed() -> list[str]:
    """Outputs and data of the working tree's dvc.lock that the remote does not have; or why that cannot be told."""
    own = _own_folder()
    if own:
        return [f"the default remote is {own}, a folder of this clone: nobody else can get data and weights from it"]
    done = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "data", "status", "--not-in-remote", "--json"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return [f"the remote cannot be asked: {done.stderr.strip() or 'dvc data status failed'}"]
    absent = json.loads(done.stdout).get("not_in_remote", [])
    return [f"{path}: not in the remote; `dvc push` sends it" for path in absent]


def _own_folder() -> str:
    """The default remote's folder, where it lies in this clone; else an empty text."""
    from review.revision import repository

    config = repository().config
    url = config["remote"].get(config["core"].get("remote", ""), {}).get("url", "")
    inside = Path(url).is_absolute() and Path(url).is_relative_to(Path.cwd())
    return f"{Path(url).relative_to(Path.cwd())}/" if inside else ""


def _exceptions(text: str) -> Iterator[tuple[str, str]]:
    kinds, _, reason = text.partition("=")
    for kind in kinds.split(","):
        if kind.strip() not in KINDS or not reason.strip():
            known = "\n".join(f"  {name}: {meaning}" for name, meaning in KINDS.items())
            raise UserError(f"--allow: expected KIND=REASON or KIND,KIND=REASON, got {text!r}. Kinds:\n{known}")
        yield kind.strip(), reason.strip()
