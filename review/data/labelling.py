"""Which pictures of a folder to label first, as a CSV file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from review.data import vectors
from review.data.features import Features, Image
from review.data.order import labelling_order
from review.data.threads import one_thread
from stages.common import tables
from stages.common.errors import UserError

COLUMNS = ("path", "sha256", "likely", "p_likely")


class Useful(NamedTuple):
    """A picture to label, the class that it is likely of, and how likely."""

    image: Image
    likely: str
    probability: float


def most_useful(labelled: Features, unlabelled: Features, count: int) -> list[Useful]:
    """The `count` unlabelled pictures that teach most, in this order; by train and val images, as test is for the
    claim. UserError where these are of one class."""
    rows = [row for row, image in enumerate(labelled.images) if image.split != "test"]
    classes = sorted({labelled.images[row].label for row in rows})
    if len(classes) < 2:
        raise UserError(
            f"labelling order: expected train and val images of two classes or more, got {len(classes)}. Label some of "
            "each class first."
        )
    place = {name: number for number, name in enumerate(classes)}
    labels = np.array([place[labelled.images[row].label] for row in rows], np.int64)
    with one_thread():
        standard = vectors.fit(labelled.vectors)
        known, asked = standard.of(labelled.vectors[rows]), standard.of(unlabelled.vectors)
        order = labelling_order(known, labels, asked, count)
    return [Useful(unlabelled.images[one.row], classes[one.label], one.probability) for one in order]


def write_labelling(path: Path, found: list[Useful]) -> None:
    """Write them in their order."""
    rows = ((one.image.path, one.image.sha256, one.likely, f"{one.probability:.4f}") for one in found)
    tables.write(path, COLUMNS, rows)
