"""Whether wrong labels are found: `.venv/bin/python -m benchmarks.labels FOLDER ...`.

Each FOLDER holds features.npy, images.csv and about.json, as `make look` leaves them in .dvc/tmp/look/.

planted    a share of all labels is replaced by any other class: how many images are suspected, recall, precision, and
           precision among the k worst, where k labels were replaced; beside it, confident learning as cleanlab does it
           (its `confident_learning`, the k worst by normalized margin) on the probabilities of one cross-validation
corrected  a fifth of the images keeps its labels and is the test; of the rest, labels are replaced, and a person who
           knows the truth looks at all suspects: accuracy before, after, and with the true labels
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from review.data import vectors
from review.data.features import Features, read
from review.data.labels import search
from review.data.probabilities import FOLDS, answers, cross_validated, folds_of
from review.data.threads import one_thread
from stages.common.errors import UserError

SHARES = (0.0, 0.02, 0.05, 0.1)


class Data(NamedTuple):
    """Projected features, float32 N×d, labels, int64 N, groups, and the names of the classes."""

    vectors: np.ndarray
    labels: np.ndarray
    groups: list[str]
    classes: list[str]


class Found(NamedTuple):
    """Of planted errors: how many images are suspected, and shares of 1."""

    suspected: float
    recall: float
    precision: float
    precision_at_k: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description="Planted label errors.")
    parser.add_argument("folders", nargs="+", type=Path, help="folders of features, as .dvc/tmp/look/")
    parser.add_argument("--seeds", type=int, default=5, help="seeds, from 0 (default: 5)")
    arguments = parser.parse_args()
    with one_thread():
        for folder in arguments.folders:
            data = load(folder)
            print(f"{folder.name}: {len(data.labels):,} images of {len(data.classes)} classes", flush=True)
            for share in SHARES:
                found = [planted(data, share, seed) for seed in range(arguments.seeds if share else 1)]
                ours, plain = (np.mean([one[place] for one in found], axis=0) for place in (0, 1))
                print(f"planted {share:4.0%}: {described(ours)}; one pass: {described(plain)}", flush=True)
            for share in SHARES[1:]:
                runs = np.array([corrected(data, share, seed) for seed in range(arguments.seeds)])
                before, after, true, looked_at = runs.mean(0)
                gained, missed = percent_points(runs[:, 1] - runs[:, 0]), percent_points(runs[:, 2] - runs[:, 1])
                print(
                    f"corrected {share:4.0%}: accuracy {before:.1%} before, {after:.1%} after {looked_at:.0f} were "
                    f"looked at, {true:.1%} with the true labels; after - before {gained}, true - after {missed}",
                    flush=True,
                )


def load_features(folder: Path) -> Features:
    """Of a folder that is not in a project any more; ends the benchmark where there are none."""
    try:
        return read(folder, folder / "manifest.csv")
    except UserError as error:
        sys.exit(f"error: {error}")


def load(folder: Path) -> Data:
    features = load_features(folder)
    classes = sorted({image.label for image in features.images})
    labels = np.array([classes.index(image.label) for image in features.images])
    projected = vectors.fit(features.vectors).of(features.vectors)
    return Data(projected, labels, [image.group for image in features.images], classes)


def replaced(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Labels, of which a share is any other class."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(labels), round(share * len(labels)), replace=False)
    given = labels.copy()
    given[rows] = (labels[rows] + generator.integers(1, classes, len(rows))) % classes
    return given


def planted(data: Data, share: float, seed: int) -> tuple[Found, Found]:
    """What the search finds, and what confident learning alone finds."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given = replaced(data.labels, share, len(data.classes), seed)
    wrong = given != data.labels
    folds = folds_of(given, data.groups)
    ours = search(data.vectors, given, folds)
    once = cross_validated(data.vectors, given, folds)
    issues = find_label_issues(given, once, filter_by="confident_learning", n_jobs=1)
    margins = get_label_quality_scores(given, once, method="normalized_margin")
    return score(ours.suspected, ours.quality, wrong), score(issues, margins, wrong)


def score(suspected: np.ndarray, quality: np.ndarray, wrong: np.ndarray) -> Found:
    k, hits = int(wrong.sum()), int((suspected & wrong).sum())
    worst = np.argsort(quality, kind="stable")[:k]
    at_k = float(wrong[worst].mean()) if k else float("nan")
    return Found(int(suspected.sum()), hits / k if k else float("nan"), hits / max(1, int(suspected.sum())), at_k)


def described(found: np.ndarray) -> str:
    suspected, recall, precision, at_k = found
    if np.isnan(recall):
        return f"{suspected:.0f} suspected"
    return f"{suspected:.1f} suspected, recall {recall:.2f}, precision {precision:.2f}, at k {at_k:.2f}"


def corrected(data: Data, share: float, seed: int) -> tuple[float, float, float, int]:
    """Accuracy on a clean fifth before and after, and with the true labels; how many images were looked at."""
    held_out = folds_of(data.labels, data.groups, seed=seed) == seed % FOLDS
    known, true = data.vectors[~held_out], data.labels[~held_out]
    given = replaced(true, share, len(data.classes), seed)
    groups = [group for group, out in zip(data.groups, held_out.tolist(), strict=True) if not out]
    suspected = search(known, given, folds_of(given, groups)).suspected
    mended = np.where(suspected, true, given)

    def accuracy(labels: np.ndarray) -> float:
        says = answers(known, labels, data.vectors[held_out], len(data.classes)).argmax(1)
        return float((says == data.labels[held_out]).mean())

    return accuracy(given), accuracy(mended), accuracy(true), int(suspected.sum())


def percent_points(differences: np.ndarray) -> str:
    """Mean and standard error, in points."""
    error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    return f"{100 * differences.mean():+.2f} ± {100 * error:.2f} points"


if __name__ == "__main__":
    main()
