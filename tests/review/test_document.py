"""Markdown that renders, HTML that is whole, and what people name things does not become markup."""

import re

from review.document import Chart, Document, Section, Table, markdown, page
from tests.markup import Page

DOCUMENT = Document(
    "a → b",
    "Better <script>",
    [
        Section("Params", [Table(["param", "base"], [["a|b", "<script>\nx"]])]),
        Section("Curves", [Chart('loss "x"', {'"a"': [1.0, 0.5, 0.25], "b": [0.75]}), "The end."]),
    ],
)


def test_markdown() -> None:
    text = markdown(DOCUMENT)
    assert text.startswith(
        "# a → b\n\n**Better `<script>`**\n\n## Params\n\n| param | base |\n| --- | --- |\n"
        "| `a\\|b` | `<script>\\nx` |\n"
    )
    (chart,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert "line [1, 0.5, 0.25]\n    line [0.75]" in chart
    assert chart.count('"') == 4


def test_page() -> None:
    text = page(DOCUMENT)
    parsed = Page(text)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert parsed.tags.count("polyline") == 2
    assert "http" not in text


def test_a_flat_line_is_drawn() -> None:
    assert "nan" not in page(Document("a", "b", [Section("c", [Chart("d", {"e": [0.5, 0.5]})])]))
