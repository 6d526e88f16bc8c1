"""The tables of a model's answers to single images: in which form evaluate and claim write them and the review reads
them."""

import heapq
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # PyTorch, without which the review reads.
    from stages.evaluate.scores import Scores

# Of each image, so many classes are kept, the most probable first: top-5 accuracy is the figure that papers state.
BEST = 5
# Of an image's SHA-256, as many as tell ten million images apart; Git keeps them, and digests do not compress.
IMAGE_DIGITS = 16
# Of more images, the table in Git is a sample: of so many, half a megabyte of each commit. McNemar's test on them finds
# a difference of 0.3 points where one answer in ten differs.
MOST_IN_GIT = 50_000
# Up to so many classes, predictions.csv has the probability of each; a row of a hundred is a kilobyte.
MOST_PROBABILITIES = 100
# Before the probabilities of all classes, or those of the image's own class, of the predicted one and of the next.
NAMES = ("sha256", "path", "class", "predicted")
NEXT = tuple(range(2, BEST + 1))
SHORT = (*NAMES, "p_class", "p_predicted", *(column for place in NEXT for column in (f"class_{place}", f"p_{place}")))


def places_in_git(digests: Sequence[str]) -> Sequence[int]:
    """Which images the table in Git has, by their places: all, or those with the smallest digests, which are the same
    in every revision, whatever else is added, and say nothing of the images."""
    if len(digests) <= MOST_IN_GIT:
        return range(len(digests))
    return sorted(heapq.nsmallest(MOST_IN_GIT, range(len(digests)), key=digests.__getitem__))


def columns(classes: Sequence[str]) -> Sequence[str]:
    """The header of predictions.csv."""
    return SHORT if len(classes) > MOST_PROBABILITIES else (*NAMES, *(f"p_{label}" for label in classes))


def values(scores: "Scores", classes: Sequence[str]) -> Iterator[list[str]]:
    """What follows the class in predictions.csv, for each image: the predicted class and probabilities, either of each
    class with six decimals, or of the image's own class and of the five most probable ones with six digits, whose
    logarithm is as exact."""
    if len(classes) <= MOST_PROBABILITIES:
        assert scores.all is not None
        for shares in scores.all:
            yield [classes[shares.argmax()], *(f"{share:.6f}" for share in shares.tolist())]
        return
    for own, best, shares in zip(
        scores.of_class.tolist(), scores.best.tolist(), scores.probabilities.tolist(), strict=True
    ):
        pairs = ((classes[label], f"{share:.6g}") for label, share in zip(best[1:], shares[1:], strict=True))
        yield [classes[best[0]], f"{own:.6g}", f"{shares[0]:.6g}", *(value for pair in pairs for value in pair)]
