"""What a comparison means: its words, and a colour that agrees with them."""

from dataclasses import fields, replace
from typing import Any

import pytest

from review.comparison import Classes, Diff
from review.document import Strong
from review.render import document_of
from review.revision import Revision
from review.significance import Prediction, compare_models
from tests.manifests import compare_rows

PARTS: dict[str, Any] = {field.name: "it is missing." for field in fields(Diff)}
REVISIONS = {side: Revision(side, "0" * 40, ask_remote=False) for side in ("base", "head")}
MISSING = Diff(**PARTS | REVISIONS | {"stale": [], "malformed": []})


def answers(right: int, *, start: int = 0, label: str = "cat") -> dict[str, Prediction]:
    """Of a hundred images."""
    return {f"{start + number:016x}": Prediction(label, label if number < right else "owl") for number in range(100)}


def compared(old: dict[str, Prediction], new: dict[str, Prediction]) -> Diff:
    return replace(MISSING, model=compare_models(old, new) or "the two val splits have no image in common.")


@pytest.mark.parametrize(
    ("diff", "words", "tone"),
    [
        (compared(answers(50), answers(90)), "Better: accuracy +40.00 points", "good"),
        (compared(answers(90), answers(50)), "Worse: accuracy -40.00 points", "bad"),
        (compared(answers(90), answers(91)), "No significant difference: accuracy +1.00 points", ""),
        (compared(answers(90), answers(90)), "The same answers on 100 common val images", ""),
        (compared(answers(90), answers(90, start=1000)), "Not comparable: the two val splits have no image", "warn"),
        (
            replace(MISSING, classes=Classes(["cat"], ["dog"])),
            "Another task: other classes, 1 in base (cat), 1",
            "warn",
        ),
        (MISSING, "Not comparable: it is missing.", "warn"),
    ],
)
def test_the_verdict(diff: Diff, words: str, tone: str) -> None:
    document = document_of(diff, None)
    (banner,) = document.banners
    assert banner.text.startswith(words)
    assert banner.tone == tone
    assert document.verdict == banner.text


def test_a_changed_test_set_has_a_banner_of_its_own() -> None:
    row = {"path": "a.png", "class": "cat", "split": "test", "sha256": "0" * 64, "status": "kept"}
    document = document_of(replace(MISSING, data=compare_rows([row], [])), None)
    assert document.banners[1:] == [
        Strong("The test set changed: 0 images added, 1 removed, 0 of another class.", "warn")
    ]
    assert document.verdict.endswith(f" {document.banners[1].text}")
