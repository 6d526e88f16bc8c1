"""Texts of others, such as names, values and messages, put into a terminal, Markdown, HTML or a figure as mere text.

One function for each language. A harmless text comes out as it went in.
"""

import html as _html
import re

from stages.common.names import is_printable

# A code span that somebody wrote: nothing but text, whatever it holds.
_CODE_SPAN = r"(?<!`)`[^`]+`(?!`)"
_TOKEN = re.compile(rf"(?P<space>\s+)|(?P<code>{_CODE_SPAN})|(?P<word>(?:(?!{_CODE_SPAN})\S)+)")
# A word of GitHub's Markdown that can be nothing but a word. It has none of the characters that begin emphasis, code,
# links, HTML, entities, table cells and formulas, no @ and no # (mentions, references); and colon, per cent and
# exclamation mark only at an end, because inside they make addresses, emoji and GitLab's references.
_PLAIN = re.compile(
    r"""(?!.*www\.)(?!.*GH-\d)
    (?: [A-Za-z0-9.,;()+=/'"?{}-] | [^\x00-\x7f] | (?<=[^\W_])_(?=[^\W_]) | [:%!](?![^\s)"'.,;:%!]) )+""",
    re.VERBOSE | re.IGNORECASE,
)
# At the beginning of a line: a list, a rule, the underline of a heading, a command of GitLab.
_BEGINS_BLOCK = re.compile(r"[-+=]+|\d+[.)]|/\w.*")


def terminal(text: str) -> str:
    r"""`text` on one line: control characters, line separators and bidirectional controls as \x1b, \u2028, \u202e."""
    return "".join(character if is_printable(character) else _shown(character) for character in text)


def message(text: str) -> str:
    """The same for a text whose line feeds are meant."""
    return "\n".join(map(terminal, text.split("\n")))


def html(text: object) -> str:
    """Text of an HTML element, or in a quoted attribute. Its line feeds stay."""
    return _html.escape(message(str(text)))


def markdown(text: str) -> str:
    """Text within a line of GitHub's Markdown: what could be more than a word stands as code, where no markup, mention,
    reference or address is looked for. Code spans that `text` has stay such."""
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(terminal(text).strip()):
        kind, token = match.lastgroup or "", match[0]
        begins_block = not tokens and _BEGINS_BLOCK.fullmatch(token)
        if kind == "word" and (begins_block or not _PLAIN.fullmatch(token)):
            kind = "markup"
        kinds = [before for before, _ in tokens[-2:]]
        if kind == "markup" and kinds == ["markup", "space"]:
            token = tokens.pop(-2)[1] + tokens.pop()[1] + token
        elif {kind, *kinds[-1:]} == {"markup", "code"}:
            kind, token = "markup", tokens.pop()[1] + token
        tokens.append((kind, token))
    return "".join(_code(token) if kind == "markup" else token for kind, token in tokens)


def markdown_cell(text: str) -> str:
    """The same in a cell of a table, which a bar would end, in code too."""
    return markdown(text).replace("|", r"\|")


def mermaid(text: str) -> str:
    """A title between quotes in a Mermaid chart, in a fenced block of Markdown."""
    return "".join(
        character if character.isalnum() or character in " .,:;()/_+-→" else _shown(character)
        for character in terminal(text)
    )


def mathtext(text: str) -> str:
    """A label of a Matplotlib figure, in which a dollar sign would begin a formula."""
    return terminal(text).replace("$", r"\$")


def _shown(character: str) -> str:
    escaped = character.encode("unicode_escape").decode("ascii")
    return escaped if escaped != character else f"\\x{ord(character):02x}"


def _code(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"
