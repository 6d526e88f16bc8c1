"""From how many runs a claimed model was chosen: the best of many is better than it is, on the images it was chosen by.

`make claim` writes into claim/ what the clone knew that made the claim: experiments and queue are that clone's alone.
Another clone knows those that were pushed, so both numbers are said. Nobody can know of runs that were thrown away.
"""

from pathlib import Path
from typing import NamedTuple

from review import git
from review.lock import Lock, hashes
from review.revision import CLAIM, Malformed, Missing, Revision
from stages.common.files import write_json
from stages.common.versions import DATA

RECORD = f"{CLAIM}/chosen.json"
WEIGHTS = "models/model.safetensors"


class Chosen(NamedTuple):
    """Numbers of models that were trained on the same images: known in this clone; and stated with the claim, None
    where nothing was stated of this model."""

    known: int
    stated: int | None

    @property
    def runs(self) -> int:
        return max(self.known, self.stated or 0)

    def __str__(self) -> str:
        if self.runs == 1:
            return "the only run on these images that is known"
        here = "" if self.stated is None or self.known >= self.stated else f", {self.known} of them known in this clone"
        return f"the best of {self.runs} runs on these images that are known{here}"


def chosen_from(revision: Revision) -> Chosen:
    """The runs that the revision's model was chosen from. Raises Missing."""
    return Chosen(known_runs(revision), stated_runs(revision))


def record(revision: Revision) -> Chosen:
    """Write RECORD for the model in the workspace, and return what it says."""
    chosen = Chosen(known_runs(revision), None)
    write_json(Path(RECORD), {"path": WEIGHTS, "md5": _weights(revision.lock), "runs": chosen.known})
    return chosen


def known_runs(revision: Revision) -> int:
    """How many models this clone knows that were trained on the images that a revision has: its own, and those of all
    other commits, tags and experiments. Raises Missing."""
    images = hashes(revision.lock, "deps").get(DATA)
    found = {_weights(revision.lock)}
    for commit in git.changes_of("dvc.lock"):
        try:
            lock = Revision(commit, commit).lock
        except Missing:
            continue  # it has no result
        if hashes(lock, "deps").get(DATA) == images:
            found.add(_weights(lock))
    return len(found)


def stated_runs(revision: Revision) -> int | None:
    """The number that was stated with the claim of the revision's model; None where none was. Raises Malformed."""
    try:
        record = revision.json(RECORD)
    except Malformed:
        raise
    except Missing:
        return None
    runs = record.get("runs")
    if not isinstance(runs, int) or isinstance(runs, bool) or runs < 1:
        raise Malformed(f"{RECORD}: runs: expected a number in {revision}, got {runs!r}. `make claim` makes it.")
    return runs if record.get("md5") == _weights(revision.lock) else None


def _weights(lock: Lock) -> str | None:
    return hashes(lock, "outs").get(WEIGHTS)
