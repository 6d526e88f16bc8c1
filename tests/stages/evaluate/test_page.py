"""The page is whole without a network, and what people name their classes does not become markup."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from stages.evaluate.page import Picture, write_page

METRICS = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "majority_accuracy": 0.3, "images": 10}


class Page(HTMLParser):
    """Which tags a page has, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["cat", "<script>alert(1)</script>", 'a"b&c'])
def test_names_are_text(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    write_page(
        tmp_path / "reports/report.html",
        model=name,
        metrics=METRICS,
        pictures=[Picture(tmp_path / "a.png", name, name)],
        data=name,
        tables={name: {name: name}},
    )
    text = (tmp_path / "reports/report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert "<b>0.5000</b>" in text
    assert "prefers-color-scheme" in text or "color-scheme: light dark" in text
