"""Which version of the model is at which stage, by tags of Git, as GTO names them: `classifier@v1.2.0` is a version,
`classifier#prod#3` puts the version of its commit at a stage, and `classifier#prod!#4` takes it away.

The counter goes over all stages, so that of two promotions at a time, one cannot be pushed. Of several tags of a stage,
the highest one counts; that is why going back is a tag, too.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from review import git

# As dvc.yaml names it.
ARTIFACT = "classifier"
_SEMVER = r"v(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:-([0-9A-Za-z.-]+))?"
_VERSION = re.compile(rf"{ARTIFACT}@({_SEMVER})")
# A folder below deploy/ has its name: GTO allows a slash, too.
_STAGE = "[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_ASSIGNMENT = re.compile(rf"{ARTIFACT}#({_STAGE})(!?)#([1-9]\d{{0,8}})")


class Version(NamedTuple):
    """A release of the model: `name` is v1.2.0."""

    name: str
    commit: str

    @property
    def tag(self) -> str:
        return f"{ARTIFACT}@{self.name}"


class Assignment(NamedTuple):
    """A tag that puts the version of `commit` at a stage, or, with `removes`, takes it away."""

    number: int
    stage: str
    commit: str
    removes: bool

    @property
    def tag(self) -> str:
        return f"{ARTIFACT}#{self.stage}{'!' if self.removes else ''}#{self.number}"


class Registry(NamedTuple):
    """Versions, the newest first, and what the tags say of stages, the first first."""

    versions: Sequence[Version]
    assignments: Sequence[Assignment]

    def of_stages(self) -> dict[str, Assignment]:
        """What counts for each stage."""
        return {one.stage: one for one in self.assignments}

    def version(self, commit: str) -> Version | None:
        """The newest version of a commit; None where it has none."""
        return next((version for version in self.versions if version.commit == commit), None)

    def next_number(self) -> int:
        """That of the next tag."""
        return max((one.number for one in self.assignments), default=0) + 1


def read() -> Registry:
    """What the tags of this clone say; those of other names say nothing of it."""
    versions, assignments = [], []
    for name, digest in git.tags().items():
        version, assignment = _VERSION.fullmatch(name), _ASSIGNMENT.fullmatch(name)
        commit = git.commit(digest) if version or assignment else None
        if commit is None:
            continue
        if version:
            versions.append(Version(version[1], commit.id))
        if assignment:
            assignments.append(Assignment(int(assignment[3]), assignment[1], commit.id, assignment[2] == "!"))
    return Registry(sorted(versions, key=_order, reverse=True), sorted(assignments))


def is_version(name: str) -> bool:
    """Whether it is one such as v1.2.0 (Semantic Versioning 2.0.0, without build metadata, as image names allow)."""
    return re.fullmatch(_SEMVER, name) is not None


def is_stage(name: str) -> bool:
    """Whether a stage may have this name."""
    return re.fullmatch(_STAGE, name) is not None


def _order(version: Version) -> tuple[object, ...]:
    """By Semantic Versioning's precedence: a pre-release is before its release; numbers are before words."""
    match = re.fullmatch(_SEMVER, version.name)
    assert match
    numbers = tuple(map(int, match.groups()[:3]))
    if match[4] is None:
        return *numbers, 1, ()
    return *numbers, 0, tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in match[4].split("."))
