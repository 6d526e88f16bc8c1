"""The claim of a revision: what its model reached on the test split, which nothing is chosen by.

claim/ may hold the claim of an earlier model. It says so itself: claim/dvc.lock names the model, the test images, the
code and the params that it was made with. What is not of the revision's own is never shown as its figure.
"""

from functools import cache
from typing import Any

from review.freshness import Finding, disagreements
from review.lock import Lock, hashes
from review.revision import CLAIM, Missing, Revision

FIGURES = f"{CLAIM}/test.json"
ANSWERS = f"{CLAIM}/confusion.csv"
# What a claim, or an export, is of.
MEASURED = ("models/model.safetensors", "prepared/test-images.npy", "prepared/test-labels.npy")
_REMEDY = "`make claim` measures it, once the model is chosen."


def claim_findings(revision: Revision) -> list[Finding]:
    """Everything in which `revision` and its claim/dvc.lock disagree; nothing where it claims nothing. Of the kind
    output: a file that was edited; of all other kinds: the claim is stale. Raises Missing."""
    # A commit stays as it is, and a comparison asks for its claim several times.
    return _findings_at(revision) if revision.commit else _findings(revision)


def _findings(revision: Revision) -> list[Finding]:
    lock = revision.claim_lock
    if lock is None:
        return []
    return disagreements(revision, f"{CLAIM}/dvc.yaml", revision.claim_declared, f"{CLAIM}/dvc.lock", lock)


_findings_at = cache(_findings)


def edited(revision: Revision) -> list[Finding]:
    """Files of the claim, stale or not, that are not what its run wrote. Raises Missing."""
    return [finding for finding in claim_findings(revision) if finding.kind == "output"]


def fresh_lock(revision: Revision) -> Lock:
    """claim/dvc.lock, where it is of this revision's model, test images, code and params. Raises Missing; its text
    says what the test accuracy is: not claimed."""
    lock = revision.claim_lock
    if lock is None:
        raise Missing(f"not claimed in {revision}. {_REMEDY}")
    stale = [finding.text for finding in claim_findings(revision) if finding.kind != "output"]
    # `dvc commit` and `dvc exp save` write a lock that says so of any file; the figures say what was measured.
    deps = hashes(lock, "deps")
    measured = [{"path": path, "md5": deps.get(path)} for path in MEASURED]
    if revision.json(FIGURES).get("measured") != measured:
        stale.append(f"{FIGURES} says that other weights or images were measured")
    if stale:
        raise Missing(
            f"not claimed in {revision}: {CLAIM}/ is of another model, data, code or params ({stale[0]}). {_REMEDY}"
        )
    return lock


def figures(revision: Revision) -> dict[str, Any]:
    """claim/test.json of a fresh claim, as its run wrote it. Raises Missing."""
    fresh_lock(revision)
    # Each is checked: a number, in a file that is what the run wrote.
    return revision.json(FIGURES) | {
        name: revision.number(FIGURES, name) for name in ("accuracy", "accuracy_low", "accuracy_high")
    }


def said(revision: Revision) -> str:
    """The claimed test accuracy of this revision's model, or why there is none, in one line."""
    try:
        return accuracy_text(figures(revision))
    except Missing as missing:
        return str(missing)


def accuracy_text(figures: dict[str, Any]) -> str:
    """An accuracy with its interval. KeyError, TypeError or ValueError where `figures` have none."""
    return (
        f"{figures['accuracy']:.4f}, 95 % interval {figures['accuracy_low']:.4f} to {figures['accuracy_high']:.4f} "
        f"(Wilson, {figures['images']} images)"
    )
