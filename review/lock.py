"""Two dvc.lock files side by side: which outputs differ, and what among code, data and params may be the reason."""

from dataclasses import dataclass
from typing import Any

from stages.common.weight_names import why_no_weights

# How fast a run was and on what: they may differ between two runs of the same experiment.
NOT_RESULTS = {"metrics/run.json", "metrics/environment.json"}

Lock = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Outputs that both runs could have in common, those of them that differ, and the inputs that differ: paths, and
    params as `name: old → new`."""

    outputs: list[str]
    different_outputs: list[str]
    different_inputs: list[str]


def compare(old: Lock, new: Lock) -> Comparison:
    """Compare the parsed contents of two dvc.lock files.

    An input that is another stage's output is not a reason and is left out.
    """
    old_outs, new_outs = (hashes(lock, "outs") for lock in (old, new))
    outputs = sorted((old_outs.keys() | new_outs.keys()) - NOT_RESULTS)
    old_deps, new_deps = (hashes(lock, "deps") for lock in (old, new))
    old_params, new_params = (_params(lock) for lock in (old, new))
    made = {path.split("/")[0] for path in outputs}
    inputs = [
        path
        for path in sorted(old_deps.keys() | new_deps.keys())
        if old_deps.get(path) != new_deps.get(path) and path.split("/")[0] not in made
    ]
    inputs += [
        f"{name}: {old_params.get(name)} → {new_params.get(name)}"
        for name in sorted(old_params.keys() | new_params.keys())
        if old_params.get(name) != new_params.get(name)
    ]
    return Comparison(outputs, [path for path in outputs if old_outs.get(path) != new_outs.get(path)], inputs)


def hashes(lock: Lock, kind: str) -> dict[str, str]:
    """The recorded MD5 of all `deps` or `outs`, by path."""
    return {entry["path"]: entry.get("md5", "") for stage in lock["stages"].values() for entry in stage.get(kind, [])}


def params_of(lock: Lock) -> dict[str, Any]:
    """The params of params.yaml that the run had."""
    found: dict[str, Any] = {}
    for stage in lock["stages"].values():
        found |= stage.get("params", {}).get("params.yaml", {})
    return found


def weights_of(lock: Lock) -> list[str]:
    """The pretrained weights that training began with, if any: a file, which DVC keeps."""
    named = {stage.get("params", {}).get("params.yaml", {}).get("weights") for stage in lock["stages"].values()}
    return [f"weights/{name}.safetensors" for name in named if isinstance(name, str) and not why_no_weights(name)]


def _params(lock: Lock) -> dict[str, Any]:
    """Tracked params by name; those of another file than params.yaml with the file's name before them."""
    found: dict[str, Any] = {}
    for stage in lock["stages"].values():
        for file, values in stage.get("params", {}).items():
            prefix = "" if file == "params.yaml" else f"{file} "
            found |= {prefix + name: value for name, value in values.items()}
        found["command of " + stage["cmd"].split(" -m ")[-1]] = stage["cmd"]
    return found
