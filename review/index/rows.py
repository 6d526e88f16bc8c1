"""What the index has a row of: the workspace, HEAD, all tags and all experiments of this clone.

Read from Git alone. A tag's message says what was reached, and may be anybody's: its figures are shown where the commit
that it names has the same.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from review import claim, experiments, git, tag
from review.chosen import chosen_from, stated_runs
from review.lock import hashes, params_of
from review.revision import WORKSPACE, Malformed, Missing, Revision
from review.seeds import METRICS
from stages.common.versions import DATA

HEAD, TAG, EXPERIMENT = "HEAD", "tag", "experiment"


class Share(NamedTuple):
    """An accuracy with its 95 % interval, from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A run. `val`: None where it has no result, and `notes` say why. `test`: None where nothing was claimed of it, and
    `unclaimed` says why, of what may have a claim. `chosen_from`: of how many runs its model was the best, None where
    nobody said. `other_val`: val is of other images than HEAD's, so the two are not comparable."""

    kind: str
    name: str
    commit: git.Commit | None
    val: Share | None = None
    loss: float = math.inf
    seconds: float | None = None
    test: Share | None = None
    unclaimed: str = ""
    chosen_from: int | None = None
    data: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    other_val: bool = False
    notes: tuple[str, ...] = ()


class _Claimed(NamedTuple):
    test: Share | None = None
    unclaimed: str = ""
    chosen_from: int | None = None


def collect() -> list[Row]:
    """A row for each run: the workspace, where its result is not HEAD's; HEAD; tags; experiments."""
    head = Revision.named("HEAD")
    workspace = Revision.named(WORKSPACE)
    rows = []
    if _other_lock(workspace, head):
        rows.append(_of_run(WORKSPACE, workspace, head, _claimed(workspace)))
    rows.append(_of_run(HEAD, head, head, _claimed(head)))
    rows += [_of_tag(name, digest, head) for name, digest in git.tags().items()]
    for reference, commit in git.experiments().items():
        rows.append(_of_run(EXPERIMENT, Revision(reference.split("/")[-1], commit), head, _Claimed()))
    return rows


def _other_lock(workspace: Revision, head: Revision) -> bool:
    try:
        return workspace.read("dvc.lock") != head.read("dvc.lock")
    except Missing:
        return True  # the row of what cannot be read says so


def _claimed(revision: Revision) -> _Claimed:
    try:
        figures = claim.figures(revision)
        return _Claimed(_share(claim.FIGURES, figures), chosen_from=chosen_from(revision).runs)
    except Missing as missing:
        return _Claimed(unclaimed=str(missing))


def _of_run(kind: str, run: Revision, head: Revision, claimed: _Claimed) -> Row:
    commit = git.commit(run.commit) if run.commit else None
    try:
        figures = experiments.read(run, head)
        ends = dict(zip(("accuracy_low", "accuracy_high"), figures.interval, strict=True))
        val = _share(METRICS, {"accuracy": figures.accuracy} | ends)
    except Missing as missing:
        return Row(kind, run.name, commit, notes=(f"no result: {missing}",))
    try:
        marks = experiments.marks(run, head)
    except Missing:
        marks = ["HEAD has no result, so whether the val images are the same is not known"]
    return Row(
        kind,
        run.name,
        commit,
        val,
        figures.loss,
        figures.seconds,
        *claimed,
        hashes(run.lock, "deps").get(DATA, ""),
        params_of(run.lock),
        other_val=experiments.OTHER_VAL in marks,
        notes=tuple(marks),
    )


def _of_tag(name: str, digest: str, head: Revision) -> Row:
    commit = git.commit(digest)
    if commit is None:
        return Row(TAG, name, None, notes=("no result: it names no commit of this clone",))
    revision = Revision(name, commit.id)
    try:
        facts = tag.read_facts(git.tag_message(digest))
        different = tag.differences(facts, revision)
        if different:
            raise Malformed(f"its message says otherwise than its commit: {', '.join(different)}.")
        test = _share(claim.FIGURES, facts["claim"])
        # Neither can be told from the commit's other files, and the smaller one would be the flattering one.
        runs = [
            count for count in (facts.get("chosen_from"), stated_runs(revision)) if type(count) is int and count > 0
        ]
    except (Missing, git.TooLargeError) as reason:
        return Row(TAG, name, commit, notes=(f"no result: {reason}",))
    return _of_run(TAG, revision, head, _Claimed(test, chosen_from=max(runs, default=None)))


def _share(path: str, figures: dict[str, Any]) -> Share:
    found = Share(*(figures[f"accuracy{end}"] for end in ("", "_low", "_high")))
    if not 0 <= found.low <= found.value <= found.high <= 1:
        raise Malformed(f"{path}: expected an accuracy of 0 to 1 in its interval, got {', '.join(map(str, found))}.")
    return found
