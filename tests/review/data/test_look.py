"""A look at the data: wrong labels, the learning curve, what to label first, and what bad input gives."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from review.data import labels as wrong_labels
from review.data import learning
from review.data.findings import Picture
from review.data.look import better_than_chance, look
from review.data.order import labelling_order
from review.data.probabilities import folds_of, learnable
from review.data.threads import one_thread
from stages.common.errors import UserError
from tests.project import ROOT
from tests.review.data.blobs import clouds, features, images


@pytest.fixture(autouse=True)
def as_look_computes() -> Iterator[None]:
    with one_thread():
        yield


def test_planted_errors_are_found_with_what_they_are_and_what_they_are_like() -> None:
    vectors, true = clouds(3, 40, apart=6)
    given = true.copy()
    planted = [5, 31, 60, 94]
    given[planted] = (true[planted] + 1) % 3
    found = look(features(vectors, images(given)))
    by_row = {int(suspect.picture.sha256, 16): suspect for suspect in found.suspects}
    assert set(planted) <= set(by_row)
    assert len(by_row) <= len(planted) + 2
    assert [int(suspect.picture.sha256, 16) in planted for suspect in found.suspects[:4]] == [True] * 4
    for row in planted:
        suspect = by_row[row]
        assert (suspect.picture.label, suspect.suggested) == (str(given[row]), str(true[row]))
        assert suspect.p_given < suspect.p_suggested
        assert suspect.like_given is not None and suspect.like_suggested is not None
        for like, label in ((suspect.like_given, given[row]), (suspect.like_suggested, true[row])):
            assert like.label == str(label)
            assert int(like.sha256, 16) not in planted
    assert found.facts["labels that it confirms"].endswith("%")


def test_the_same_bytes_each_time() -> None:
    vectors, labels = clouds(3, 30, apart=1.5)
    first, second = (repr(look(features(vectors, images(labels)))) for _ in range(2))
    assert first == second


def test_a_group_is_in_one_fold_and_a_class_needs_as_many_groups_as_folds() -> None:
    labels = np.array([0, 1] * 30)
    groups = [f"patient {row // 4}" for row in range(60)]
    folds = folds_of(labels, groups)
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}
    assert all(len({folds[row] for row in range(60) if groups[row] == group}) == 1 for group in groups)
    assert learnable(labels, groups).tolist() == [True, True]
    assert learnable(labels, ["one" if label else "" for label in labels]).tolist() == [True, False]


def test_bad_input_is_said_once_each() -> None:
    vectors, labels = clouds(2, 30)
    alone = look(features(vectors, images(np.zeros_like(labels))))
    assert "There is only one class, and so no search for wrong labels." in alone.remarks
    assert alone.curve.why_not and not alone.suspects and not alone.slices

    few = labels.copy()
    few[:3] = 2
    found = look(features(vectors, images(few)))
    said = [remark for remark in found.remarks if remark.startswith("Classes of fewer than 5 images")]
    assert len(said) == 2 and all("2 (3)" in remark for remark in said)  # of the search, and of the curve
    assert all("2" not in (one.picture.label, one.suggested) for one in found.suspects)
    assert found.classes == ["0", "1", "2"]

    broken = vectors.copy()
    broken[7, 3] = np.nan
    with pytest.raises(UserError, match="not numbers in row 8"):
        look(features(broken, images(labels)))
    same = look(features(np.ones_like(vectors), images(labels)))
    assert any("no better than chance" in remark for remark in same.remarks)
    (one,) = images(labels[:1])
    assert look(features(vectors[:1], [one])).classes == ["0"]
    with pytest.raises(UserError, match="of no images"):
        look(features(vectors[:0], []))


@pytest.mark.slow
def test_where_all_labels_are_wrong_nothing_is_suspected() -> None:
    vectors, labels = clouds(4, 25)
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(labels)
        found = look(features(vectors, images(shuffled)))
        assert any("no better than chance" in remark for remark in found.remarks)
        assert not found.suspects and found.curve.forecast is None and not found.wanted
    assert better_than_chance(labels, labels)
    assert not better_than_chance(np.zeros_like(labels), labels)


def test_images_of_test_are_searched_but_tell_nothing_of_the_classifier() -> None:
    vectors, labels = clouds(2, 60)
    rows = images(labels)
    rows = [row._replace(split="test") if place % 3 == 0 else row for place, row in enumerate(rows)]
    rows[0] = rows[0]._replace(label="1")
    found = look(features(vectors, rows))
    assert [suspect.picture.path for suspect in found.suspects][:1] == ["0/0.png"]
    assert found.curve.points[-1].images == 64  # of 80 images of train, four folds
    assert sum(one.images for one in found.slices if one.by == "class") == 80


def test_the_own_model_has_no_curve_and_answers_for_its_val_images() -> None:
    vectors, labels = clouds(2, 40)
    rows = images(labels)
    rows = [row._replace(split="val") if place % 2 else row for place, row in enumerate(rows)]
    rows = [row._replace(label=str(place // 2 % 2)) for place, row in enumerate(rows)]
    answers = {row.sha256: "0" for row in rows if row.split == "val"}
    found = look(features(vectors, rows, own_model=True), answers)
    assert found.curve.points == [] and "has learned from these images" in found.curve.why_not
    assert [(one.value, one.images, one.right, one.is_worse) for one in found.slices if one.by == "class"] == [
        ("1", 20, 0, True),
        ("0", 20, 20, False),
    ]
    assert any("wrong ones too" in remark for remark in found.remarks)
    assert not found.copies
    without = look(features(vectors, rows, own_model=True))
    assert any("no answers of the model" in remark for remark in without.remarks)


def test_a_class_is_not_lost_where_all_its_labels_are_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = clouds(3, 20)
    monkeypatch.setattr(wrong_labels, "_issues", lambda _, given: given == 2)
    found = wrong_labels.search(vectors, labels, folds_of(labels, [""] * len(labels)))
    assert (found.probabilities[labels == 2].argmax(1) == 2).mean() > 0.9


def test_the_law_of_a_curve_is_recovered_and_its_forecast_is_careful() -> None:
    sizes = [50, 100, 200, 400, 800]
    exact = np.array([0.9 - 1.5 * size**-0.5 for size in sizes])
    law = learning._fit(sizes, exact[None], np.ones(5), learning._EXPONENTS)
    assert law.at(1600)[0] == pytest.approx(0.9 - 1.5 * 1600**-0.5, abs=0.002)
    falling, above = np.array([[0.9, 0.89, 0.9, 0.88, 0.87]]), np.array([[0.2, 0.5, 0.75, 0.95, 0.999]])
    assert learning._fit(sizes, falling, np.ones(5), learning._EXPONENTS).at(1600)[0] <= 0.9
    assert learning._fit(sizes, above, np.ones(5), learning._EXPONENTS).at(1e9)[0] <= 1


@pytest.mark.parametrize("apart", [1.0, 6.0])
def test_a_forecast_lies_in_its_interval_and_does_not_fall(apart: float) -> None:
    vectors, labels = clouds(3, 40, apart=apart)
    measured = learning.measure(vectors, labels, [""] * len(labels), repeats=1)
    assert measured.sizes == [12, 24, 48, 96]
    curve = learning.curve(measured, labels)
    assert all(point.low <= point.accuracy <= point.high for point in curve.points)
    assert curve.forecast is not None and curve.forecast.images == 192
    assert curve.points[-1].accuracy <= curve.forecast.accuracy <= curve.forecast.high <= 1
    assert 0 <= curve.forecast.low <= curve.forecast.accuracy
    assert learning.curve(learning.measure(vectors[:40], labels[:40], [""] * 40), labels[:40]).forecast is None


def test_the_class_that_gains_most_is_wanted_first() -> None:
    labels = np.repeat([0, 1, 2], [100, 100, 10])
    sizes = [20, 40, 80, 160]
    predicted = np.tile(labels, (1, 4, 1))
    for place, wrong in enumerate((60, 48, 38, 30)):
        predicted[0, place, 100 : 100 + wrong] = 0
    measured = learning.Measured(sizes, predicted, np.arange(210)[None] % 5)
    found = learning.wanted(measured, labels, ["good", "hard", "small"])
    assert [one.label for one in found] == ["hard", "small"]
    assert found[0].recall == 0.7 and found[0].expected is not None and 0.72 < found[0].expected < 0.85
    assert found[1].expected is None


def test_what_is_unsure_is_labelled_first_and_each_kind_of_it() -> None:
    vectors, labels = clouds(3, 30, apart=6)
    generator = np.random.default_rng(3)
    sure = np.repeat(np.eye(12)[:3] * 6, 40, axis=0)
    between = np.repeat([[3, 3, 0], [0, 3, 3]], 5, axis=0)
    unlabelled = np.vstack([sure, np.pad(between, ((0, 0), (0, 9)))])
    unlabelled = (unlabelled + generator.normal(0, 0.1, unlabelled.shape)).astype(np.float32)
    found = labelling_order(vectors, labels, unlabelled, 2)
    assert {(one.row - 120) // 5 for one in found} == {0, 1}
    assert labelling_order(vectors, labels, unlabelled, 2) == found
    everything = labelling_order(vectors, labels, np.vstack([unlabelled, unlabelled[:5]]), 1_000)
    assert sorted(one.row for one in everything) == list(range(135))
    assert labelling_order(vectors, labels, unlabelled[:0], 5) == []


def test_the_nearest_pictures_may_be_missing() -> None:
    found = wrong_labels.Search(
        np.array([[0.1, 0.9], [0.2, 0.8]], np.float32), np.array([True, False]), np.array([0.1, 0.8]), np.array([1, 1])
    )
    pictures = [Picture(f"{row}", f"{row}.png", label, "train") for row, label in enumerate("ab")]
    (suspect,) = wrong_labels.suspects(found, np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "b"], pictures)
    assert suspect.like_given is None
    assert suspect.like_suggested == pictures[1]


@pytest.mark.slow
def test_all_libraries_are_limited_to_one_thread() -> None:
    """In a process of its own, where SciPy, which brings its own BLAS, is not loaded before."""
    code = (
        "import stages; from review.data.threads import one_thread\n"
        "with one_thread():\n"
        "    import scipy.linalg, threadpoolctl\n"
        "    print(*[one['num_threads'] for one in threadpoolctl.threadpool_info()])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"1"}
