"""What `reproduce` says of a revision: a word, why, and the particulars; for a terminal, Markdown and GitHub's log."""

from dataclasses import dataclass, field

from stages.common import escape

EXIT_CODES = {"identical": 0, "consistent": 0, "different": 1, "not comparable": 2, "not checked": 3}
# Words that leave open whether the claim is true.
OPEN = {
    "not comparable": "it cannot be told here: a GPU's claim without a GPU, other packages, or missing data",
    "not checked": "the run was not over in the time that it had",
}
# Of the comment that has the report, too (markdown.py).
MOST_BYTES = 10_000
# Lines, and characters of each; the less, the more of them are controls and emoji.
_ROOMS = ((40, 500), (40, 200), (40, 100), (20, 100), (10, 100), (0, 100))


@dataclass(frozen=True)
class Verdict:
    """One of EXIT_CODES, in a line why, and the particulars. `allowed`: the stated reason why one of OPEN may pass."""

    word: str
    why: str
    particulars: list[str] = field(default_factory=list)
    allowed: str = ""

    @property
    def exit_code(self) -> int:
        return 0 if self.allowed else EXIT_CODES[self.word]


def text(revision: str, verdict: Verdict) -> str:
    """For a terminal: the verdict, and a line for each particular."""
    lines = [f"{revision}: {verdict.word}. {verdict.why}"]
    lines += [f"  allowed: {verdict.allowed}"] if verdict.allowed else []
    lines += [f"  {line}" for line in verdict.particulars]
    return "\n".join(map(escape.terminal, lines))


def markdown(revision: str, verdict: Verdict) -> str:
    """A section of a change request's report, in MOST_BYTES bytes of UTF-8. Texts of the revision stay text."""
    sections = (_section(revision, verdict, *room) for room in _ROOMS)
    return next(text for text in sections if len(text.encode()) <= MOST_BYTES)


def _section(revision: str, verdict: Verdict, lines: int, longest: int) -> str:
    said = [f"## Run again: {verdict.word}", ""]
    said += [f"**{_cut(revision, longest)}: {verdict.word}.** {_cut(verdict.why, longest)}"]
    if verdict.word in OPEN:
        said += ["", f"**Nobody has checked this claim:** {OPEN[verdict.word]}."]
    if verdict.allowed:
        said += ["", f"It may go in nevertheless: {_cut(verdict.allowed, longest)}"]
    if verdict.particulars:
        said += ["", *(f"- {_cut(line, longest)}" for line in verdict.particulars[:lines])]
    if (left := len(verdict.particulars) - lines) > 0:
        said += [f"- and {left:,} more"]
    return "\n".join(said) + "\n"


def annotation(revision: str, verdict: Verdict) -> str:
    """A command of GitHub's log (docs: workflow commands) that shows the verdict beside the change; empty where the
    claim was found true."""
    if EXIT_CODES[verdict.word] == 0:
        return ""
    message = escape.terminal(f"{revision}: {verdict.word}. {verdict.why}").replace("%", "%25")
    return f"::{'warning' if verdict.word in OPEN else 'error'} title=reproduce: {verdict.word}::{message}"


def _cut(line: str, longest: int) -> str:
    return escape.markdown(line if len(line) <= longest else f"{line[:longest]}…")
