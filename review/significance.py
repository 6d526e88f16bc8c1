"""Whether one result is better than another by more than chance.

Two statements are kept apart. *This model against that model*: both answered the same images, and another draw of
images might have told otherwise. *This recipe against that recipe*: both were trained with several seeds, and other
seeds and other images might have told otherwise.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A difference counts where one as large would occur by chance in fewer than this share of cases.
LEVEL = 0.05


@dataclass(frozen=True)
class Prediction:
    """What a model said of an image, and what the image is."""

    actual: str
    predicted: str

    @property
    def right(self) -> bool:
        return self.actual == self.predicted


@dataclass(frozen=True)
class Moved:
    """Images of a class that a model newly gets right or wrong."""

    label: str
    gained: int
    lost: int


@dataclass(frozen=True)
class ModelComparison:
    """One model against another on `images` that both answered: accuracies, new - old with its 95 % interval, how many
    images changed from wrong to right and back, and the p value of McNemar's test. `unmatched`: how many images have no
    counterpart of the same class in the other's answers, and are left out: the `removed`, that only the old model
    answered, the `added`, that only the new one did, and the `relabelled`, which are of another class now."""

    images: int
    unmatched: int
    removed: int
    added: int
    relabelled: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    same_answers: bool
    p_value: float
    p_exact: float
    moved: list[Moved]

    @property
    def significant(self) -> bool:
        return self.p_value < LEVEL


@dataclass(frozen=True)
class RecipeComparison:
    """One recipe against another, each trained with several seeds: means of the seeds' accuracies, their standard
    deviations, new - old with its 95 % interval, and the p value. `images` is 0 where only seeds' noise is in it;
    `unmatched` of the images are not in all runs under one class, and are left out."""

    old: list[float]
    new: list[float]
    images: int
    difference: float
    low: float
    high: float
    p_value: float
    unmatched: int = 0

    @property
    def significant(self) -> bool:
        return self.p_value < LEVEL


def compare_models(old: Mapping[str, Prediction], new: Mapping[str, Prediction]) -> ModelComparison | None:
    """Compare on the images, by their content's digest, that both have under the same class; None where none is."""
    common = [image for image in old if image in new and old[image].actual == new[image].actual]
    if not common:
        return None
    gained = [new[image].actual for image in common if new[image].right and not old[image].right]
    lost = [new[image].actual for image in common if old[image].right and not new[image].right]
    low, high = difference_interval(len(gained), len(lost), len(common))
    gained_of, lost_of = Counter(gained), Counter(lost)
    moved = [Moved(label, gained_of[label], lost_of[label]) for label in gained_of | lost_of]
    both = len(old.keys() & new.keys())
    return ModelComparison(
        images=len(common),
        unmatched=len(old.keys() | new.keys()) - len(common),
        removed=len(old) - both,
        added=len(new) - both,
        relabelled=both - len(common),
        old=sum(old[image].right for image in common) / len(common),
        new=sum(new[image].right for image in common) / len(common),
        difference=(len(gained) - len(lost)) / len(common),
        low=low,
        high=high,
        gained=len(gained),
        lost=len(lost),
        same_answers=all(old[image].predicted == new[image].predicted for image in common),
        p_value=mcnemar_mid_p(len(gained), len(lost)),
        p_exact=mcnemar_exact(len(gained), len(lost)),
        moved=sorted(moved, key=lambda one: (-abs(one.gained - one.lost), -one.gained - one.lost, one.label)),
    )


def mcnemar_exact(gained: int, lost: int) -> float:
    """McNemar's exact conditional test: the p value of `gained` heads in as many tosses of a fair coin as images
    changed, two-sided."""
    tosses, fewer = gained + lost, min(gained, lost)
    tail = sum(_binomial(tosses, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail)


def mcnemar_mid_p(gained: int, lost: int) -> float:
    """McNemar's test with the mid-p value, which counts what was observed by half.

    Fagerland, Lydersen, Laake, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than
    exact conditional" (2013): the exact test finds false gains in far fewer than 5 of 100 cases where few images
    change, and so misses true ones; mid-p stays near 5.
    """
    if gained == lost:
        # All of the distribution is at least as extreme, and the middle counts by half on both sides.
        return 1.0 if gained == 0 else 1 - _binomial(gained + lost, gained) / 2
    return mcnemar_exact(gained, lost) - _binomial(gained + lost, min(gained, lost))


def difference_interval(gained: int, lost: int, images: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same images.

    Bonett, Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data"
    (2012).
    """
    up, down = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / (images + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def compare_recipes(
    old: Sequence[float],
    new: Sequence[float],
    per_image: tuple[np.ndarray, np.ndarray] | None = None,
    unmatched: int = 0,
) -> RecipeComparison:
    """Compare the accuracies of two recipes' seeds, two or more each.

    Welch's test (1947) on the seeds; with `per_image`, each image's share of right answers over the seeds of old and of
    new, the variance of the mean of their difference over images is added, and degrees of freedom are Satterthwaite's.
    """
    from scipy.stats import t as student

    parts = [(float(np.var(values, ddof=1)) / len(values), len(values) - 1) for values in (old, new)]
    images = 0
    if per_image is not None and len(per_image[0]) > 1:
        differences = per_image[1] - per_image[0]
        images = len(differences)
        parts.append((float(np.var(differences, ddof=1)) / images, images - 1))
    variance = sum(part for part, _ in parts)
    difference = float(np.mean(new) - np.mean(old))
    if variance == 0:
        p_value = float(difference == 0)
        return RecipeComparison([*old], [*new], images, difference, difference, difference, p_value, unmatched)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    half = float(student.ppf(1 - LEVEL / 2, freedom)) * error
    p_value = float(2 * student.sf(abs(difference) / error, freedom))
    low, high = difference - half, difference + half
    return RecipeComparison([*old], [*new], images, difference, low, high, p_value, unmatched)


def _binomial(tosses: int, heads: int) -> float:
    """The probability of so many heads of a fair coin, also for tosses by the hundred thousand."""
    log = math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1) - tosses * math.log(2)
    return math.exp(log)
