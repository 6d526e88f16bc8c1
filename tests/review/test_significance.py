"""Tests of better and worse: against scipy's, by hand, and by simulation."""

import math

import numpy as np
import pytest

from benchmarks.significance import found, power
from review.significance import (
    Prediction,
    compare_models,
    compare_recipes,
    difference_interval,
    mcnemar_exact,
    mcnemar_mid_p,
)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (3, 0), (5, 5), (9, 4), (2, 17), (400, 470), (40_000, 39_000)]
)
def test_mcnemar(gained: int, lost: int) -> None:
    """Exact: a fair coin, by scipy. Mid-p: half of the observed outcome's probability, at each end, less."""
    from scipy.stats import binom, binomtest

    tosses = gained + lost
    exact = binomtest(gained, tosses).pvalue if tosses else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(exact, rel=1e-6, abs=1e-12)
    tail = binom.cdf(min(gained, lost), tosses, 0.5)
    observed = binom.pmf(min(gained, lost), tosses, 0.5)
    expected = 2 * (tail - observed / 2) if gained != lost else 1 - observed / 2 if tosses else 1
    assert mcnemar_mid_p(gained, lost) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert mcnemar_mid_p(gained, lost) == mcnemar_mid_p(lost, gained)


@pytest.mark.parametrize(("images", "disagreement"), [(360, 0.1), (10_000, 0.02)])
def test_equally_good_models_are_seldom_told_apart(images: int, disagreement: float) -> None:
    """5 % of 2,000 pairs, within 3 standard deviations."""
    share, _ = found(images, disagreement, 0.0, 2000, np.random.default_rng(1))
    assert 0.035 < share < 0.065


def test_a_true_gain_is_found_as_often_as_theory_says() -> None:
    share, _ = found(1000, 0.1, 0.03, 2000, np.random.default_rng(1))
    assert share == pytest.approx(power(1000, 0.1, 0.03), abs=0.03)


def test_the_interval_of_a_difference_covers() -> None:
    """Of 2,000 simulated pairs with a true gain of 2 points, the interval holds it in about 95 %."""
    counts = np.random.default_rng(2).multinomial(400, (0.06, 0.04, 0.9), 2000)[:, :2].tolist()
    intervals = [difference_interval(gained, lost, 400) for gained, lost in counts]
    assert 0.935 < np.mean([low <= 0.02 <= high for low, high in intervals]) < 0.97


def test_the_interval_of_a_difference_by_hand() -> None:
    """Bonett and Price (2012): one success more of each kind, of two images more."""
    up, down = 6 / 102, 2 / 102
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 102)
    assert difference_interval(5, 1, 100) == pytest.approx((up - down - half, up - down + half))
    low, high = difference_interval(0, 0, 20)
    assert low == -high < 0


def predicted(**of_image: str) -> dict[str, Prediction]:
    """image="actual>predicted"."""
    return {image: Prediction(*text.split(">")) for image, text in of_image.items()}


def test_models_are_compared_on_common_images_of_the_same_class() -> None:
    """`d` is relabelled, `e` is gone, `f` is new: none of them counts."""
    old = predicted(a="cat>cat", b="cat>dog", c="dog>dog", d="cat>cat", e="cat>dog")
    new = predicted(a="cat>dog", b="cat>cat", c="dog>dog", d="dog>cat", f="dog>cat")
    comparison = compare_models(old, new)
    assert comparison is not None
    assert (comparison.images, comparison.gained, comparison.lost) == (3, 1, 1)
    assert comparison.unmatched == 3
    assert comparison.old == comparison.new == pytest.approx(2 / 3)
    assert comparison.difference == 0
    assert not comparison.significant
    assert not comparison.same_answers
    assert [(one.label, one.gained, one.lost) for one in comparison.moved] == [("cat", 1, 1)]


def test_another_wrong_answer_is_no_change_of_accuracy_but_no_same_answer() -> None:
    comparison = compare_models(predicted(a="cat>dog"), predicted(a="cat>owl"))
    assert comparison is not None
    assert not comparison.same_answers
    assert comparison.moved == []


def test_nothing_in_common() -> None:
    assert compare_models(predicted(a="cat>cat"), predicted(b="cat>cat")) is None
    assert compare_models(predicted(a="cat>cat"), predicted(a="dog>cat")) is None


def test_recipes_by_their_seeds_alone_are_welchs_test() -> None:
    from scipy.stats import ttest_ind

    old, new = [0.91, 0.92, 0.9], [0.93, 0.95, 0.94, 0.91]
    comparison = compare_recipes(old, new)
    expected = ttest_ind(new, old, equal_var=False)
    assert comparison.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert [comparison.low, comparison.high] == pytest.approx([low, high])
    assert comparison.images == 0


def test_the_noise_of_the_images_widens_the_interval() -> None:
    old, new = [0.8, 0.82], [0.9, 0.92]
    images = np.random.default_rng(0)
    per_image = images.random(50).round(), images.random(50).round()
    wider, narrow = compare_recipes(old, new, per_image), compare_recipes(old, new)
    assert wider.images == 50
    error = math.sqrt(
        np.var(old, ddof=1) / 2 + np.var(new, ddof=1) / 2 + np.var(per_image[1] - per_image[0], ddof=1) / 50
    )
    assert (wider.high - wider.low) / 2 > 1.9 * error
    assert wider.p_value > narrow.p_value


def test_recipes_without_any_spread() -> None:
    assert compare_recipes([0.5, 0.5], [0.5, 0.5]).p_value == 1
    assert compare_recipes([0.5, 0.5], [0.6, 0.6]).significant


def test_equally_good_recipes_are_seldom_told_apart() -> None:
    """3 seeds each, on 500 images, both kinds of noise: about 5 % of 600 pairs, and not more."""
    generator = np.random.default_rng(3)
    called = 0
    for _ in range(600):
        skill = generator.beta(8, 2, 500)
        runs = [generator.random((3, 500)) < np.clip(skill + generator.normal(0, 0.01, (3, 1)), 0, 1) for _ in range(2)]
        old, new = (run.mean(1).tolist() for run in runs)
        called += compare_recipes(old, new, (runs[0].mean(0), runs[1].mean(0))).significant
    assert called / 600 < 0.07
