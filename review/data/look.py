"""All that features and facts of images tell about the data, in one: what python -m review data shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from review.data import copies, labels, learning, neighbours, oddities, outliers, slices, vectors
from review.data.features import Features, Image
from review.data.findings import Copies, Findings, LearningCurve, Picture, Slice, Stranger, Suspect, Wanted
from review.data.probabilities import FOLDS, folds_of, learnable
from review.data.threads import one_thread
from stages.common.errors import UserError
from stages.common.names import shortened

# Where more of the labels are suspected, the classifier is too weak to be believed in each.
_MANY = 0.05
# So many classes are named in a remark.
_NAMED = 5


class _Searched(NamedTuple):
    """What the search for wrong labels found; its accuracy is None where there was none."""

    suspects: list[Suspect]
    remarks: list[str]
    accuracy: float | None = None


class _Learned(NamedTuple):
    """What follows from held-out answers."""

    slices: list[Slice]
    answered_by: str
    curve: LearningCurve
    wanted: list[Wanted]
    remarks: list[str]


def look(
    features: Features, val_answers: Mapping[str, str] | None = None, tell: Callable[[str], None] = lambda _: None
) -> Findings:
    """Find all of it. `val_answers`: of the project's own model, by the SHA-256 of each val image's pixels, the class
    that it says (predictions.csv); `tell` is told what is being done.

    The same bytes each time: all is computed by one thread, in the order of the images. UserError where there are no
    images, or features are not numbers.
    """
    images = features.images
    if not images:
        raise UserError("features: of no images. Run `make repro` and `make look` again.")
    pictures = [Picture(image.sha256, image.path, image.label, image.split) for image in images]
    with one_thread():
        tell("standardising features")
        standard = vectors.fit(features.vectors)
        projected = standard.of(features.vectors)
        tell("comparing all images with each other")
        near = neighbours.neighbourhood(features.vectors, standard)
        far, same, remarks = _places(near, images, pictures, own_model=features.own_model)
        odd, odd_remarks = oddities.oddities(images, pictures)
        tell("looking for wrong labels")
        searched = _search(projected, images, pictures, own_model=features.own_model)
        tell("measuring how accuracy grows with the number of images")
        learned = _of_own_model(images, val_answers) if features.own_model else _learn(projected, images)
    classes = sorted({image.label for image in images})
    facts = {
        "images": f"{len(images):,} of {len(classes):,} classes",
        "features": f"{features.vectors.shape[1]:,} of {features.features_of}",
        "classifier": f"logistic regression on {projected.shape[1]} principal components, of {FOLDS} folds",
    }
    if searched.accuracy is not None:
        facts["labels that it confirms"] = f"{searched.accuracy:.1%}"
    if not features.own_model:
        facts["likeness of copies"] = f"{copies.limit(near):.2f} or more"
    return Findings(
        facts=facts,
        remarks=[*remarks, *odd_remarks, *searched.remarks, *learned.remarks],
        classes=classes,
        suspects=searched.suspects,
        strangers=far,
        copies=same,
        oddities=odd,
        slices=learned.slices,
        answered_by=learned.answered_by,
        curve=learned.curve,
        wanted=learned.wanted,
    )


def _places(
    near: neighbours.Neighbourhood, images: Sequence[Image], pictures: Sequence[Picture], *, own_model: bool
) -> tuple[list[Stranger], list[Copies], list[str]]:
    """Images by their distances: strangers and copies."""
    remarks = []
    far = outliers.strangers(near, pictures)
    if len(images) < outliers.FEWEST:
        remarks.append(f"Images that do not belong are not looked for among fewer than {outliers.FEWEST} images.")
    if own_model:
        remarks.append(
            "Copies are not looked for: to a model that has learned them, all images of a class are alike. prepare has "
            "compared pixels (prepared/summary.txt)."
        )
        return far, [], remarks
    if copies.all_alike(near):
        remarks.append(
            "Half of the images have one that is as like as a copy elsewhere. Either all images are alike, or they are "
            "few scenes, as the frames of a video are, which belong into groups (`group_pattern`). Only pairs of "
            f"likeness {copies.limit(near):.2f} or more are named as copies."
        )
    return far, copies.copies(near, pictures, [image.group for image in images]), remarks


def _search(
    projected: np.ndarray, images: Sequence[Image], pictures: Sequence[Picture], *, own_model: bool
) -> _Searched:
    """Wrong labels, among all splits."""
    rows, of_row, names, remarks = _known(images, "search for wrong labels")
    if not len(names):
        return _Searched([], remarks)
    known = projected[rows]
    found = labels.search(known, of_row, folds_of(of_row, [images[row].group for row in rows]))
    accuracy = float((found.says == of_row).mean())
    if own_model:
        remarks.append(
            "The features are of a model that has learned these labels, wrong ones too: of train images, it hides what "
            "it has learned by heart. Features of weights that others trained find more (docs/photos.md)."
        )
    if not better_than_chance(found.says, of_row):
        remarks.append(
            f"The classifier says {accuracy:.1%} of the labels, which is no better than chance. The labels are wrong "
            "nearly everywhere, or the features know nothing of these classes: no label is suspected."
        )
        return _Searched([], remarks, accuracy)
    share = float(found.suspected.mean())
    if share > _MANY:
        remarks.append(
            f"{share:.0%} of the labels are suspected by a classifier that says {accuracy:.1%} of them, so most of "
            "these are right. Look at the first ones, and stop when no more of them are wrong."
        )
    return _Searched(labels.suspects(found, known, of_row, names, [pictures[row] for row in rows]), remarks, accuracy)


def _learn(projected: np.ndarray, images: Sequence[Image]) -> _Learned:
    """The curve, and slices by cross-validated answers, of train and val: test is for the claim."""
    ours = [row for row, image in enumerate(images) if image.split != "test"]
    places, of_row, names, remarks = _known([images[row] for row in ours], "learning curve and slices")
    if not len(names):
        return _Learned([], "", LearningCurve([], None, "fewer than two classes have enough images"), [], remarks)
    asked = [images[ours[place]] for place in places.tolist()]
    groups = [image.group for image in asked]
    measured = learning.measure(projected[[ours[place] for place in places.tolist()]], of_row, groups)
    curve = learning.curve(measured, of_row)
    says = measured.predicted[0, -1]
    found, more = slices.slices(asked, says == of_row)
    remarks += more
    if not better_than_chance(says, of_row):
        curve = LearningCurve(curve.points, None, "the classifier is no better than chance")
        return _Learned(found, _BY_FOLDS, curve, [], remarks)
    return _Learned(found, _BY_FOLDS, curve, learning.wanted(measured, of_row, names), remarks)


_BY_FOLDS = f"classifiers on features, each image by one that has not seen it ({FOLDS} folds of train and val)"


def _of_own_model(images: Sequence[Image], val_answers: Mapping[str, str] | None) -> _Learned:
    curve = LearningCurve([], None, "the features are of a model that has learned from these images")
    asked = [image for image in images if image.split == "val" and image.sha256 in (val_answers or {})]
    if val_answers is None or not asked:
        return _Learned([], "", curve, [], ["There are no slices, as there are no answers of the model to val images."])
    right = np.array([val_answers[image.sha256] == image.label for image in asked])
    found, remarks = slices.slices(asked, right)
    return _Learned(found, "the project's model, on val images", curve, [], remarks)


def _known(images: Sequence[Image], what_for: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Rows of images of the classes that can be learned, the places of their classes among these, their names, and
    remarks on the others; nothing of any where there are fewer than two, and why."""
    names = sorted({image.label for image in images})
    place = {name: number for number, name in enumerate(names)}
    of_row = np.array([place[image.label] for image in images], np.int64)
    kept = learnable(of_row, [image.group for image in images])
    counts = np.bincount(of_row, minlength=len(names))
    grouped = "images in groups of their own" if any(image.group for image in images) else "images"
    few = [f"{shortened(names[label])} ({counts[label]})" for label in np.flatnonzero(~kept)]
    remarks = []
    if few:
        more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
        remarks.append(
            f"Classes of fewer than {FOLDS} {grouped} are left out of the {what_for}: {', '.join(few[:_NAMED])}{more}. "
            "Collect images of them first."
        )
    if kept.sum() < 2:
        what = "There is only one class" if len(names) == 1 else "Fewer than two classes have enough images"
        return (
            np.array([], np.int64),
            np.array([], np.int64),
            [],
            [*remarks, f"{what}, and so no {what_for}."],
        )
    rows = np.flatnonzero(kept[of_row])
    renumbered = np.cumsum(kept) - 1
    return rows, renumbered[of_row[rows]], [names[label] for label in np.flatnonzero(kept)], remarks


def better_than_chance(says: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the mean recall of the classes is above that of an answer that does not look, 1 / K, by more than two
    standard errors."""
    counts = np.bincount(labels)
    recalls = np.bincount(labels, weights=says == labels) / counts
    classes = len(counts)
    # At least that of one wrong and one right answer more, so that a class of few images is not sure of anything.
    smoothed = (recalls * counts + 1) / (counts + 2)
    error = float(np.sqrt((smoothed * (1 - smoothed) / counts).sum())) / classes
    return float(recalls.mean()) - 2 * error > 1 / classes
