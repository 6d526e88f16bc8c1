"""Both forms of predictions.csv say the same to the review; what is neither is refused in a sentence."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from review.comparison import agrees
from review.report.answers import Answers, answers_in
from stages.common import tables
from stages.evaluate.answers import MOST_IN_GIT, columns, values
from stages.evaluate.scores import score

CLASSES = [f"class {number}" for number in range(101)]


def read(text: str) -> Answers:
    return Answers.of(answers_in(tables.Rows(io.StringIO(text, newline=""))))


def test_the_short_and_the_long_form(tmp_path: Path) -> None:
    """The same classes and confidence; the long one as earlier versions wrote it of many classes, too."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 101, 30)
    logits = generator.normal(0, 1, (30, 101))
    logits[np.arange(0, 30, 2), labels[::2]] += 9
    scores = score([logits], labels, keep_all=True)
    assert scores.all is not None
    heads = [[f"{number:064x}", f"{number}.png", CLASSES[label]] for number, label in enumerate(labels.tolist())]
    tables.write(
        tmp_path / "short", columns(CLASSES), ([*a, *b] for a, b in zip(heads, values(scores, CLASSES), strict=True))
    )
    tables.write(
        tmp_path / "long",
        ["sha256", "path", "class", "predicted", *(f"p_{name}" for name in CLASSES)],
        ([*a, CLASSES[p.argmax()], *(f"{x:.6f}" for x in p)] for a, p in zip(heads, scores.all, strict=True)),
    )
    short, long = (read((tmp_path / form).read_text()) for form in ("short", "long"))
    assert [one[:4] for one in map(short.__getitem__, range(30))] == [
        one[:4] for one in map(long.__getitem__, range(30))
    ]
    np.testing.assert_allclose(short.confidence, long.confidence, atol=1e-6)
    assert short.right.sum() == (scores.predicted == labels).sum() >= 15
    assert short.confusions() == Counter(
        (CLASSES[label], CLASSES[answer]) for label, answer in zip(labels, scores.predicted, strict=True)
    )
    surest = short.surest_of(CLASSES[labels[0]])
    assert surest is not None
    assert surest.actual == surest.predicted == CLASSES[labels[0]]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("12,a,x,x,0.5", "expected 64 digits of a SHA-256"),
        (f"{'0' * 64},a,x,x,1.5", "a probability of 1.5"),
        (f"{'0' * 64},a,x,x,nan", "a probability of nan"),
        (f"{'0' * 64},a,x,x,much", "could not convert string to float"),
        (f"{'0' * 64},a,x,x", "line 2 has other than 5 values"),
    ],
)
def test_what_evaluate_does_not_write(row: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read(f"sha256,path,class,predicted,p_x\n{row}\n")


def test_figures_and_answers_agree() -> None:
    """By six digits; of a sample, by its standard error."""
    assert agrees(0.9, 100, 0.9000004, 100)
    assert not agrees(0.9, 100, 0.90001, 100)
    assert not agrees(0.9, 101, 0.9, 100)
    assert agrees(0.9, 10**6, 0.902, MOST_IN_GIT)
    assert not agrees(0.9, 10**6, 0.91, MOST_IN_GIT)
    assert not agrees(0.9, 10**6, 0.9, MOST_IN_GIT - 1)
    assert not agrees(float("nan"), 10**6, 0.9, MOST_IN_GIT)
