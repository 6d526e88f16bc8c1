"""The tables of answers: what of many classes and images is written, and that it is chosen by rules alone."""

import math
import random

import numpy as np
import pytest

from stages.evaluate import answers
from stages.evaluate.scores import score


def test_the_most_probable_of_many_classes() -> None:
    """Of equal logits, the first; a probability that is nearly 0 keeps its logarithm."""
    classes = [f"class {number}" for number in range(101)]
    logits = np.zeros((2, 101))
    logits[0, [7, 5, 99, 3]] = [4, 3, 3, 2]
    logits[1, 50] = 40
    rows = list(answers.values(score([logits[:1], logits[1:]], np.array([5, 0])), classes))
    header = answers.columns(classes)
    assert all(len(row) == len(header) - 3 for row in rows)
    first, second = (dict(zip(header[3:], row, strict=True)) for row in rows)
    named = [first["predicted"], *(first[f"class_{place}"] for place in (2, 3, 4, 5))]
    assert named == [f"class {number}" for number in (7, 5, 99, 3, 0)]
    assert first["p_class"] == first["p_2"] == first["p_3"] < first["p_predicted"]
    assert (second["predicted"], second["p_predicted"]) == ("class 50", "1")
    assert math.log(float(second["p_class"])) == pytest.approx(-40, abs=1e-5)


def test_a_hundred_classes_have_all_probabilities() -> None:
    classes = [f"class {number}" for number in range(100)]
    scores = score([np.eye(100)], np.arange(100), keep_all=True)
    rows = list(answers.values(scores, classes))
    assert answers.columns(classes) == (*answers.NAMES, *(f"p_{name}" for name in classes))
    assert sum(map(float, rows[3][1:])) == pytest.approx(1, abs=1e-4)
    assert [row[0] for row in rows] == classes


def test_the_sample_in_git_is_the_same_whatever_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that come later take places; of those that both revisions have, none comes in."""
    monkeypatch.setattr(answers, "MOST_IN_GIT", 20)
    digests = [f"{random.Random(number).getrandbits(256):064x}" for number in range(60)]
    assert list(answers.places_in_git(digests[:20])) == list(range(20))
    before, after = ({digests[place] for place in answers.places_in_git(digests[:size])} for size in (50, 60))
    assert len(before) == len(after) == 20
    assert after & set(digests[:50]) <= before


def test_logits_and_labels_must_be_of_the_same_images() -> None:
    with pytest.raises(ValueError, match="logits of 2 images, but 3 labels"):
        score([np.eye(2)], np.arange(3))
