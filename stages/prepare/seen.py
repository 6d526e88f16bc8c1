"""A decoded picture → the square that a model sees, as prepare stores it; for those who have one picture alone."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.prepare.picture import Decoded, to_square


class Seen(NamedTuple):
    """A picture as prepare stores it, uint8 S×S×C, and what was done to it that a person should know."""

    pixels: np.ndarray
    note: str


def as_seen(picture: Decoded, stored_size: int, resize: str, channels: int) -> Seen:
    """What prepare would make of it. A picture in colour, for a model of grey ones, becomes grey by ITU-R 601, as
    Pillow does it, and the note says so."""
    square = to_square(picture.rgb, stored_size, resize)
    if channels == 3:
        return Seen(square, picture.note)
    if (square == square[..., :1]).all():
        return Seen(square[..., :1], picture.note)
    grey = np.asarray(Image.fromarray(square).convert("L"))[..., None]
    return Seen(grey, "; ".join(filter(None, [picture.note, "colour, seen as grey"])))
