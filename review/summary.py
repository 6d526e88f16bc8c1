"""`python -m review summary`: the result in the workspace in a few lines."""

import json
from pathlib import Path
from typing import Any

import yaml

from review import git
from review.lock import compare
from review.revision import WORKSPACE, Revision
from review.seeds import accuracies, same_recipe, spread
from stages.errors import UserError
from stages.files import read_json

_REMEDY = "`make repro` makes it."
_SHOWN = 8


def print_summary(*_: object) -> None:
    """Print test and val accuracy, where to look, and whether the outputs equal those of the committed dvc.lock."""
    evaluate = read_json(Path("metrics/evaluate.json"), _REMEDY)
    train = read_json(Path("metrics/train.json"), _REMEDY)
    rows = {
        "test accuracy": f"{evaluate['accuracy']:.4f}, 95 % interval {evaluate['accuracy_low']:.4f} to "
        f"{evaluate['accuracy_high']:.4f} (Wilson, {evaluate['images']} images)",
        "val accuracy": f"{train['val_accuracy']:.4f} (best epoch: {train['best_epoch']})",
        "curves": "plots/curves.csv; `dvc plots show` draws them",
        "report": "reports/report.html: open it in a browser",
        "committed result": committed_result(),
    }
    runs = same_recipe(Revision.named(WORKSPACE))
    if len(runs) > 1:
        rows["over seeds"] = f"test accuracy {spread(accuracies(runs))}"
    print()
    for name, text in rows.items():
        print(f"{name:18}{text}")


def committed_result() -> str:
    """How the workspace's outputs compare with those of HEAD's dvc.lock, byte for byte."""
    committed = git.show("HEAD", "dvc.lock")
    if committed is None:
        return "none in HEAD to compare with; commit dvc.lock, metrics/ and plots/"
    try:
        workspace = Path("dvc.lock").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"dvc.lock: no such file. {_REMEDY}") from None
    comparison = compare(yaml.safe_load(committed), yaml.safe_load(workspace))
    count = len(comparison.outputs)
    if not comparison.different_outputs:
        return f"identical byte for byte ({count} of {count} outputs)"
    text = f"different in {len(comparison.different_outputs)} of {count} outputs: {_some(comparison.different_outputs)}"
    if comparison.different_inputs:
        return f"{text}\n{'':18}because these differ: {_some(comparison.different_inputs)}"
    return f"{text}\n{'':18}with the same code, data and params: {_machines()}"


def _machines() -> str:
    """What differs between the environments of the committed run and this one."""
    committed = git.show("HEAD", "metrics/environment.json")
    old: dict[str, Any] = json.loads(committed) if committed else {}
    new = read_json(Path("metrics/environment.json"), _REMEDY)
    different = [
        f"{key}: {old.get(key)} → {new.get(key)}" for key in old.keys() | new.keys() if old.get(key) != new.get(key)
    ]
    if not different:
        return "and metrics/environment.json names the same machine. That should not happen; please report it"
    return "the machine differs: " + _some(sorted(different))


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
