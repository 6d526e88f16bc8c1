"""What `reproduce` says of a revision: a word, why, and the particulars; for a terminal, Markdown and GitHub's log."""

from dataclasses import dataclass, field

from stages.common import escape

EXIT_CODES = {"identical": 0, "consistent": 0, "different": 1, "not comparable": 2, "not checked": 3}
# Words that leave open whether the claim is true.
OPEN = {
    "not comparable": "it cannot be told here: a GPU's claim without a GPU, other packages, or missing data",
    "not checked": "the run was not over in the time that it had",
}
# A comment has room for so many.
_MOST_LINES = 40
_LONGEST_LINE = 500


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
    """A section of a change request's report, short enough for a comment. Texts of the revision stay text."""
    lines = [f"## Run again: {verdict.word}", "", f"**{_cut(revision)}: {verdict.word}.** {_cut(verdict.why)}"]
    if verdict.word in OPEN:
        lines += ["", f"**Nobody has checked this claim:** {OPEN[verdict.word]}."]
    if verdict.allowed:
        lines += ["", f"It may go in nevertheless: {_cut(verdict.allowed)}"]
    if shown := verdict.particulars[:_MOST_LINES]:
        lines += ["", *(f"- {_cut(line)}" for line in shown)]
    if left := len(verdict.particulars) - len(shown):
        lines += [f"- and {left} more"]
    return "\n".join(lines) + "\n"


def annotation(revision: str, verdict: Verdict) -> str:
    """A command of GitHub's log (docs: workflow commands) that shows the verdict beside the change; empty where the
    claim was found true."""
    if EXIT_CODES[verdict.word] == 0:
        return ""
    message = escape.terminal(f"{revision}: {verdict.word}. {verdict.why}").replace("%", "%25")
    return f"::{'warning' if verdict.word in OPEN else 'error'} title=reproduce: {verdict.word}::{message}"


def _cut(line: str) -> str:
    return escape.markdown(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…")
