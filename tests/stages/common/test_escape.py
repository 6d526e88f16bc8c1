"""What others wrote stays text in each language: no markup, mention, reference, address or control comes out of it."""

import re

import pytest
from markdown_it import MarkdownIt

from stages.common import escape

HOSTILE = [
    "v1\r\r## Gate\r\r**Passed.** @maintainer ![t](http://127.0.0.1/t.png)\r\r<details>\r\r", "a\n\n# b",
    "<!-- x.json", "<script>x</script>", "&lt;b&gt;", "&#64;all", "![a](b)", "[a](b)", "[a]: b", "**a**", "*a*",
    "__a__", "_a_", "~~a~~", "`a", "a`", "``", "a ` b", "`a``b`", "`` `@x` ``", "x@`y`", "\\*a*", "\\", "a\\", "a|b",
    "|", "# a", "- a", "+ a", "* a", "1. a", "2) a", "> a", "---", "===", "***", "    a", "\ta", "/close", "@all",
    "a@b.c", "#1", "a/b#1", "GH-1", "!1", "%1", "~label", "$x$", "^1^", ":tada:", "https://a.b/c", "HTTP://a",
    "www.a.b", "ftp://a", "mailto:a@b", "stages/__main__.py", "$\\rm{x}$", "\u001b]0;x\u0007", "\u202eb", "\ud800",
    "é" * 3000 + "|", "`a" * 3000, "_ " * 3000,
]  # fmt: skip


def parsed(text: str) -> list[str]:
    """The kinds of tokens that CommonMark with GitHub's tables and strikethrough finds."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(text)
    return [token.type for token in tokens] + [below.type for token in tokens for below in token.children or []]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markdown_of_it_is_a_paragraph_of_words_and_code(hostile: str) -> None:
    """Alone, in a heading, in a list, emphasised, and in a cell."""
    text = escape.markdown(hostile)
    assert set(parsed(text)) <= {"paragraph_open", "inline", "paragraph_close", "text", "code_inline"}
    kinds = parsed(f"# {text}\n\n- x {text}\n\n**y {text}**\n")
    assert kinds.count("heading_open") == kinds.count("list_item_open") == kinds.count("strong_open") == 1
    assert not {"html_inline", "html_block", "link_open", "image", "em_open", "s_open", "fence", "hr"} & set(kinds)
    cell = parsed(f"| a | b |\n| --- | --- |\n| {escape.markdown_cell(hostile)} | end |\n")
    assert cell.count("td_open") == 2
    assert not {"html_inline", "link_open", "image", "em_open", "strong_open", "s_open"} & set(cell)
    outside_code = re.sub(r"(`+).*?(?<!`)\1(?!`)", "", text)
    assert not re.search(r"[@#<>\[\]|~$&*\\`]|://|www\.|\b[a-z]+:[a-z]", outside_code, re.IGNORECASE)


@pytest.mark.parametrize(
    "text",
    [
        "val_loss",
        "metrics/run.json: not in HEAD (0a1b2c3).",
        "0.99 (0.98–1)",
        "95 %: a; b!",
        "`make repro` makes it",
        "é → ü",
    ],
)
def test_markdown_of_harmless_text_is_the_text(text: str) -> None:
    assert escape.markdown(text) == text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_of_one_line_without_controls(hostile: str) -> None:
    for escaped in (
        escape.terminal(hostile),
        escape.markdown(hostile),
        escape.mermaid(hostile),
        escape.mathtext(hostile),
    ):
        assert escaped.isprintable()
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", escaped)
        escaped.encode("utf-8")


def test_each_language() -> None:
    assert escape.terminal("a\x1b[2J\r\n\u202e\x85") == r"a\x1b[2J\r\n\u202e\x85"
    assert escape.message("a\x07\nb\r") == "a\\x07\nb\\r"
    assert escape.html("<a href='x'>&\"\x1b\n") == "&lt;a href=&#x27;x&#x27;&gt;&amp;&quot;\\x1b\n"
    assert escape.mermaid('loss" ]; `x`') == r"loss\x22 \x5d; \x60x\x60"
    assert escape.mathtext("$x$") == r"\$x\$"
