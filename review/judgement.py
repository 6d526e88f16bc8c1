"""Whether what a run again left is what the revision claims: by bytes, else by the kind of machine and the predictions.

What decides is what this run shows, and what params say. The claim's own metrics/environment.json can only make other
bytes less than a proof, never make them right; what is taken from it on trust is said.
"""

import contextlib
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from review import claim, outputs
from review.cleanroom import Cleanroom
from review.comparison import ANSWERS, agrees, answers
from review.freshness import ENVIRONMENT
from review.lock import NOT_RESULTS, Lock
from review.revision import WORKSPACE, Missing, Revision
from review.seeds import METRICS
from review.significance import compare_models
from review.verdict import Verdict
from stages.common import arithmetic
from stages.common.documents import parse_json

# What metrics/environment.json records without a say in any number.
_NO_SAY = {"cpu_count", "image", "platform", "python"}
# By split, the table of answers and the file of figures.
_JUDGED = {"val": (ANSWERS, METRICS), "test": (claim.ANSWERS, claim.FIGURES)}


def compare(revision: Revision, lock: Lock, room: Cleanroom, stages: list[str]) -> Verdict:
    """Judge what the clean checkout holds after the run by what `revision` claims. `lock`: of all its stages."""
    # By the files themselves: the dvc.lock in there is the claim's.
    claimed_outs = {stage: _outputs(lock, stage) for stage in stages}
    differing = {
        stage: [path for path, claimed in sorted(outs.items()) if outputs.hash_of(room.path, path) != claimed]
        for stage, outs in claimed_outs.items()
    }
    first = next((stage for stage, paths in differing.items() if paths), None)
    count = sum(map(len, claimed_outs.values()))
    if first is None:
        return Verdict("identical", f"{count} of {count} outputs have the same bytes.")
    paths = [path for of_stage in differing.values() for path in of_stage]
    particulars = [f"since stage {first}: {', '.join(paths)}", *_metric_changes(revision, room.path, paths)]
    try:
        claimed = revision.json(ENVIRONMENT)
    except Missing as missing:
        claimed, particulars = {}, [*particulars, str(missing)]
    here = _own_record(room, trained="train" in stages)
    machine = list(_machine_differences(claimed, here, trained="train" in stages))
    on_trust = [f"machine: {text}" for text in machine]
    # A stage without this param computes on no device, and alike on all machines.
    devices = param_values(lock, [first], "device")
    if devices == {"auto"} and claimed.get("device") == "cuda" and not has_gpu():
        return Verdict(
            "not comparable",
            f"{len(paths)} of {count} outputs have other bytes here, on a CPU. Taken on trust: the claim's record says "
            f"it was made on {', '.join(filter(None, ('cuda', str(claimed.get('gpu', '')))))}; on a machine with a GPU "
            "this can be checked.",
            particulars + on_trust,
        )
    if not devices or _is_portable(lock):
        how = "in portable arithmetic" if devices else f"since {first}, which computes on no device"
        return Verdict(
            "different",
            f"{len(paths)} of {count} outputs have other bytes, {how}, with the same code, params, data and packages.",
            particulars + on_trust,
        )
    if not here or not claimed:
        why = "and which machine made the claim, or this run, is not recorded"
        return Verdict("not comparable", f"{len(paths)} of {count} outputs have other bytes, {why}.", particulars)
    if not machine:
        return Verdict(
            "different",
            f"{len(paths)} of {count} outputs have other bytes, on the same kind of machine, with the same code, "
            "params, data and packages.",
            particulars,
        )
    particulars += [*on_trust, f"taken on trust: what the claim's {ENVIRONMENT} says of its machine"]
    verdict = Verdict(
        "consistent", "Other bytes on another kind of machine; the predictions are the same.", particulars
    )
    for split, files in _JUDGED.items():
        if not set(files).isdisjoint(paths):
            verdict = _by_predictions(revision, room.path, split, particulars)
            if verdict.word != "consistent":
                break
    return verdict


def _outputs(lock: Lock, stage: str) -> dict[str, str | None]:
    outs = lock["stages"].get(stage, {}).get("outs", [])
    return {out["path"]: out.get("md5") for out in outs if out["path"] not in NOT_RESULTS}


def param_values(lock: Lock, stages: Iterable[str], param: str) -> set[Any]:
    """What these stages' runs had as `param`; of those that have it. One that is no single value is its text."""
    of_stages = (lock["stages"][stage].get("params", {}).get("params.yaml", {}) for stage in stages)
    values = (params[param] for params in of_stages if param in params)
    return {value if isinstance(value, str | int | float) else str(value) for value in values}


def _is_portable(lock: Lock) -> bool:
    """Whether this machine computes portably what these runs' params ask for. Not told from what the code that was run
    records of itself."""
    values = {name: param_values(lock, lock["stages"], name) for name in ("compile", "cpu_arithmetic", "precision")}
    return (
        values["cpu_arithmetic"] == {"portable"}
        and values["precision"] <= {"auto", "fp32"}
        and values["compile"] <= {False}
        and not (param_values(lock, lock["stages"], "device") - {"cpu"} and has_gpu())
        and not arithmetic.why_not_portable()
    )


def has_gpu() -> bool:
    """Whether PyTorch sees a CUDA GPU here."""
    import torch

    return torch.cuda.is_available()


class _Left(Revision):
    """What a run left, which no dvc.lock describes."""

    def written(self, path: str) -> bytes:
        """A file that is there. Raises Missing."""
        content = self.read(path)
        if content is None:
            raise Missing(f"{path}: the run has not left it.")
        return content


@contextlib.contextmanager
def _left_in(place: Path) -> Iterator[Revision]:
    """What the run left in the checkout; Git is not asked there, as its configuration may be somebody else's by now."""
    with contextlib.chdir(place):
        yield _Left(WORKSPACE, None)


def _metric_changes(revision: Revision, place: Path, paths: list[str]) -> Iterator[str]:
    for path in paths:
        if path.startswith("metrics/") or path == claim.FIGURES:
            try:
                old = revision.json(path)
            except Missing as missing:
                yield str(missing)
                continue
            try:
                with _left_in(place) as again:
                    new = again.json(path)
            except Missing:
                continue  # that it differs is said
            for name in [*new, *(name for name in old if name not in new)]:
                if old.get(name) != new.get(name):
                    yield f"{path}: {name} claimed {old.get(name)}, here {new.get(name)}"


def _own_record(room: Cleanroom, *, trained: bool) -> dict[str, Any]:
    """What this run was computed with; empty where its code does not tell."""
    # Without a training, the record in the checkout is the claim's own.
    try:
        if trained:
            with _left_in(room.path) as again:
                return again.json(ENVIRONMENT)
        record = parse_json(room.output("python", "-m", "stages.train.environment").encode())
    except (Missing, subprocess.CalledProcessError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _machine_differences(old: dict[str, Any], new: dict[str, Any], *, trained: bool) -> Iterator[str]:
    """What differs between the records of the claim and of this run, and may change the last digits."""
    no_say = _NO_SAY if trained else _NO_SAY | {"processes"}
    for name in sorted((old.keys() | new.keys()) - no_say):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name)} → {new.get(name)}"


def _by_predictions(revision: Revision, place: Path, split: str, particulars: list[str]) -> Verdict:
    table, path = _JUDGED[split]
    try:
        claimed, metrics = answers(revision, table), revision.json(path)
        stated, images = (revision.number(path, name) for name in ("accuracy", "images"))
        with _left_in(place) as again:
            here, accuracy = answers(again, table), again.number(path, "accuracy")
    except Missing as missing:
        why = f"Bytes differ, and the predictions for {split} images cannot be compared."
        return Verdict("not comparable", why, [*particulars, str(missing)])
    right = sum(answer.right for answer in claimed.values()) / len(claimed)
    if not agrees(stated, images, right, len(claimed)):
        why = f"{path} says accuracy {stated}, and {right:.6f} of the answers in {table} are right."
        return Verdict("different", why, particulars)
    models = compare_models(claimed, here)
    if models is None or models.unmatched:
        return Verdict("different", f"Its {split} images are not those that its data give.", particulars)
    figures = (
        f"{models.gained + models.lost} of {models.images} {split} images changed between right and wrong, "
        f"p = {models.p_value:.2g}"
    )
    low, high = (metrics.get(f"accuracy_{end}") for end in ("low", "high"))
    within = isinstance(low, float | int) and isinstance(high, float | int) and low <= accuracy <= high
    figures += f"; accuracy {accuracy:.4f}, {'within' if within else 'outside'} the claimed {low}–{high}"
    if models.significant or not within:
        return Verdict("different", f"Another kind of machine, but more than rounding: {figures}.", particulars)
    return Verdict("consistent", f"Other bytes on another kind of machine: {figures}.", particulars)
