"""Charts are in the page's colours, the same bytes for the same figures, and named for who does not see them."""

import re

import numpy as np

from review.charts import draw_learning, draw_lines, draw_reliability
from tests.markup import Page


def require_whole(svg: str, alt: str) -> None:
    parsed = Page(svg)
    assert parsed.open == []
    assert set(parsed.tags).isdisjoint({"script", "image", "foreignobject"})
    assert f'role="img" aria-label="{alt}"' in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set(), "a colour that is not the page's"
    assert "http" not in svg.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', "")


def test_lines() -> None:
    lines = {"train": [3.0, 2.0, 1.0], "val $x$ <b>": [3.0, 2.5, 2.6]}
    svg = draw_lines(lines, title="loss", alt="loss &lt; 1".replace("&lt;", "<"), mark=2)
    require_whole(svg, "loss &lt; 1")
    assert svg == draw_lines(lines, title="loss", alt="loss < 1", mark=2)
    assert "val $x$ &lt;b&gt;" in svg
    assert "var(--first)" in svg
    assert "var(--second)" in svg
    require_whole(draw_lines({"lr": [0.1]}, title="lr", alt="one epoch"), "one epoch")


def test_bins_with_few_images_are_pale() -> None:
    confidence = np.array([0.95] * 50 + [0.55] * 9 + [1.0, 0.0])
    svg = draw_reliability(confidence, confidence > 0.6, alt="calibration")
    require_whole(svg, "calibration")
    assert len(re.findall(r"fill: var\(--first\); opacity: 0\.25", svg)) == 2
    assert len(re.findall(r"fill: var\(--first\); opacity: 0\.8", svg)) == 1


def test_learning_curve() -> None:
    """With the forecast apart from what was measured, and numbers of images that do not stand on one another."""
    points = [(12 * 2**number, 0.7 + number / 40, 0.6 + number / 40, 0.8 + number / 40) for number in range(8)]
    svg = draw_learning(points, (3072, 0.9, 0.8, 0.95), alt="accuracy <")
    require_whole(svg, "accuracy &lt;")
    assert svg == draw_learning(points, (3072, 0.9, 0.8, 0.95), alt="accuracy <")
    assert "var(--second)" in svg
    assert all(f">{tick}<" in svg for tick in ("3,072", "768", "12"))
    assert ">1,536<" not in svg
    measured = draw_learning(points, None, alt="accuracy")
    require_whole(measured, "accuracy")
    assert "var(--second)" not in measured
    assert ">1,536<" in measured
