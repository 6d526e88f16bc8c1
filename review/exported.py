"""The exported model of a revision: models/model.onnx and the figures of its parity, which `make export` writes.

export/dvc.lock names the model, the test images, the code and the params that they were made with. An export of another
model is not kept beside this one: whoever takes the tag would serve it.
"""

from functools import cache

from review.claim import MEASURED
from review.freshness import Finding, disagreements
from review.lock import Lock, hashes
from review.revision import EXPORT, Missing, Revision

FIGURES = "metrics/export.json"
MODEL = "models/model.onnx"
_REMEDY = f"`make export` exports this model; without an export, `git rm {EXPORT}/dvc.* {FIGURES}`."


def export_findings(revision: Revision) -> list[Finding]:
    """Everything in which `revision` and its export/dvc.lock disagree; nothing where it has no export. Raises
    Missing."""
    # A commit stays as it is, and a comparison asks several times.
    return _findings_at(revision) if revision.commit else _findings(revision)


def fresh_lock(revision: Revision) -> Lock | None:
    """export/dvc.lock; None where the revision has no export. Raises Missing where it is of another model, code, params
    or test images, or was edited."""
    if found := export_findings(revision):
        raise Missing(f"the export in {revision} is stale, or was edited ({found[0].text}). {_REMEDY}")
    return revision.export_lock


def _findings(revision: Revision) -> list[Finding]:
    lock = revision.export_lock
    if lock is None:
        never = [
            f"{name}: declared in {EXPORT}/dvc.yaml, but never run"
            for name in revision.export_declared.get("stages", {})
        ]
        return [Finding("stage", EXPORT, text) for text in never]
    found = disagreements(revision, f"{EXPORT}/dvc.yaml", revision.export_declared, f"{EXPORT}/dvc.lock", lock)
    if others := sorted(lock["stages"].keys() - {EXPORT}):
        found.append(
            Finding("stage", others[0], f"{EXPORT}/dvc.lock: expected the stage {EXPORT} alone, got {others[0]}")
        )
    if found:
        return found
    # `dvc commit` and `dvc exp save` write a lock that says so of any file; the figures say what was compared.
    recorded = hashes(lock, "deps") | hashes(lock, "outs")
    measured = [{"path": path, "md5": recorded.get(path)} for path in (*MEASURED, MODEL)]
    figures = revision.json(FIGURES)
    if figures.get("measured") != measured:
        found.append(
            Finding("output", EXPORT, f"{FIGURES}: says that other weights, images or another export were compared")
        )
    if figures.get("changed") != 0:
        found.append(Finding("output", EXPORT, f"{FIGURES}: changed: expected 0, got {figures.get('changed')!r}"))
    return found


_findings_at = cache(_findings)
