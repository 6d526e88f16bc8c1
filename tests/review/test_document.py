"""A report in Markdown, on a page and at a terminal: each is whole, and what people name things does not become
markup."""

import re
from collections.abc import Callable
from functools import partial

import pytest

from review.browser import page
from review.document import Block, Chart, Document, Gallery, Section, Shown, Strong, Table, shown_rows
from review.markdown import MOST_BYTES, markdown
from review.revision import Missing
from review.verdict import MOST_BYTES as MOST_BYTES_OF_A_VERDICT
from review.verdict import Verdict
from review.verdict import markdown as verdict_markdown
from tests.markup import Page

HOSTILE = "<script>\n![x](http://x.example/) @me [a](http://y.example)\x1b[2J`|\u202e"


def picture(alt: str) -> str:
    return f'<img alt="{len(alt)}" src="data:,">'


def not_here(why: str, alt: str) -> str:
    raise Missing(why)


def gallery(*draw: Callable[[str], str] | None) -> Gallery:
    images = [Shown([f"cat/{number}{HOSTILE}", "cat", HOSTILE], one) for number, one in enumerate(draw)]
    return Gallery("Relabelled", ["image", "class was", "class is"], images, 1234)


DOCUMENT = Document(
    "a → b",
    [Strong("Better: <script>", "good"), Strong("The test set changed: 1 image", "warn")],
    [
        Section("Params", [Table(["param", "base"], [["a|b", "<script>\nx"], ["a/b", "`c/d_e`"]])]),
        Section("Curves", [Chart('loss "x"', {'"a"': [1.0, 0.5, 0.25], "b": [0.75]}), "The end."]),
        Section("Data", [gallery(picture, None)]),
    ],
)


def test_markdown() -> None:
    text = markdown(DOCUMENT)
    assert text.startswith(
        "# a → b\n\n**Better: `<script>` The test set changed: 1 image**\n\n"
        "## Params\n\n| param | base |\n| --- | --- |\n| `a\\|b` | `<script>\\nx` |\n| a/b | `c/d_e` |\n"
    )
    (chart,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert "line [1, 0.5, 0.25]\n    line [0.75]" in chart
    assert chart.count('"') == 4
    assert "### Relabelled: 2 of 1,234 images\n\n| image | class was | class is |\n" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


def test_page() -> None:
    text = page(DOCUMENT)
    parsed = Page(text)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert parsed.tags.count("svg") == parsed.tags.count("figure") == 1
    headings = [tag for tag in parsed.tags if tag in ("h1", "h2", "h3")]
    assert headings == ["h1", "h2", "h2", "h2", "h3"]
    assert '<p class="banner good"><strong>Better:</strong> &lt;script&gt;</p>' in text
    assert '<p class="banner warn"><strong>The test set changed:</strong> 1 image</p>' in text
    assert '<td role="cell" data-label="base">&lt;script&gt;\\nx</td>' in text
    assert "<code>c/<wbr>d_<wbr>e</code>" in text
    # A browser asks for no address; that of the SVG's own parts begins with #.
    assert not re.findall(r"""(?:(?:src|href)=["']|url\(|@import)(?!data:|#)""", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


def test_images_without_a_picture_are_a_table_with_one_reason() -> None:
    """On a machine without the arrays, such as one of CI."""
    away, other = partial(not_here, "not in DVC's cache"), partial(not_here, "not an array")
    galleries = [gallery(away, picture, away), gallery(away, other)]
    text = page(Document("a", [Strong("b")], [Section("Data", [*galleries])]))
    assert text.count("<figure>") == 1
    assert text.count('<th role="rowheader"') == 4
    assert re.findall('<p class="soft">(.*?)</p>', text) == [
        "Without a picture: not in DVC&#x27;s cache",
        "Without a picture: not an array",
    ]


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.5]])
def test_a_flat_line_is_drawn(values: list[float]) -> None:
    assert "nan" not in page(Document("a", [Strong("b")], [Section("c", [Chart("d", {"e": values})])]))


def test_a_long_line_is_drawn_by_its_means() -> None:
    """Of 10,000 epochs, the most that a run's curves may have."""
    text = page(
        Document("a", [Strong("b")], [Section("c", [Chart("d", {"e": [float(n % 7) for n in range(10_000)]})])])
    )
    assert "epoch (means of 10)" in text
    assert len(text) < 60_000


def test_the_rows_that_matter_most_are_shown() -> None:
    """And how many there are beside them."""
    rows = [[str(number)] for number in range(1000)]
    assert shown_rows(Table(["a"], rows), 3) == (rows[:3], "And 997 more; shown are the first.")
    heaviest = Table(["a"], rows, "the largest", [number % 999 for number in range(1000)], most=2)
    assert shown_rows(heaviest) == ([["998"], ["997"]], "And 998 more; shown are the largest.")
    assert shown_rows(Table(["a"], rows[:2], "the largest", [1, 2]), 2) == (rows[:2], "")


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([Chart(f"chart {n}", {"a": [float(n)] * 10_000, "b": [0.5] * 10_000}) for n in range(4)], "(means of 100)"),
        ([Table(["class", "f1"], [[f"n{n:08}", str(n / 7)] for n in range(10_000)])], "And 9,"),
        ([Table(["a", "b"], [["€|" * 5_000] * 2] * 500)] * 3, "Cut to fit a comment"),
        ([Table(["a"], [["x" * 99]] * 99)] * 400, "Left out: More."),
    ],
    ids=["epochs", "classes", "texts", "tables"],
)
def test_a_report_fits_a_comment_and_is_not_cut_inside(blocks: list[Block], said: str) -> None:
    """Whatever it is about: tables and charts are whole, with less in them; and so are verdict and gate."""
    reasons = Table(["kind", "reason"], [["edited", f"file {n}"] for n in range(99)])
    gate = Section("Gate", [Strong("Refused."), reasons], whole=True)
    text = markdown(Document("a → b", [Strong("Worse: " + "x" * 999)], [gate, Section("More", blocks)]))
    assert len(text.encode()) <= MOST_BYTES
    assert said in text
    assert f"**Worse: {'x' * 999}**" in text
    assert "| edited | file 98 |" in text
    assert text.count("```") % 2 == 0
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, *lines = (len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines())
        assert {header} == set(lines)
    assert text.endswith("\n")


def test_a_gate_of_any_size_fits_too() -> None:
    gate = Section("Gate", [Strong("Refused."), Table(["reason"], [["x" * 500]] * 1000)], whole=True)
    text = markdown(Document("a", [Strong("Worse.")], [gate, Section("More", ["b"])]))
    assert len(text.encode()) <= MOST_BYTES
    assert "Refused." in text
    assert "And 9" in text


@pytest.mark.parametrize("character", ["x", "€", "\U000e0001"])
def test_a_verdict_fits_beside_it(character: str) -> None:
    text = verdict_markdown("HEAD", Verdict("different", character * 999, [character * 999] * 99))
    assert 1_000 < len(text.encode()) <= MOST_BYTES_OF_A_VERDICT
    assert re.search(r"^- and \d+ more$", text, re.MULTILINE)
