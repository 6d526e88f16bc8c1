"""Sizes of raw images, and what becomes of them in squares: how far they are shrunk, enlarged or cropped."""

from typing import NamedTuple, TypeVar

# Of an image's area; a 16:9 one loses 44 %, a 3:2 one a third.
MUCH_CROPPED = 0.4
# Share of the images above which so much cropping matters.
MOST_CROPPED = 0.05

Size = tuple[int, int]
_Value = TypeVar("_Value")


class Sizes(NamedTuple):
    """Sizes are width and height in pixels, of the smallest, the median and the largest image by area; ratios are
    width ÷ height, the least, the median and the greatest.

    `shrinking`: how many pixels become one, along the side that decides, in the median image. `enlarged`, `cropped`:
    the shares of images that are enlarged, and of which a centred square is less than 1 - MUCH_CROPPED.
    """

    sizes: tuple[Size, Size, Size]
    ratios: tuple[float, float, float]
    shrinking: float
    enlarged: float
    cropped: float


def measure_sizes(images: list[tuple[int, int, int]], side: int, resize: str) -> Sizes:
    """From (width, height, number of images) of each size: what squares of `side` pixels make of them."""
    total = sum(number for _, _, number in images)
    by_area = sorted(((width * height, width, height), number) for width, height, number in images)
    by_ratio = sorted((width / height, number) for width, height, number in images)
    decides = max if resize == "pad" else min
    by_scale = sorted((decides(width, height) / side, number) for width, height, number in images)
    (_, *least), (_, *median), (_, *most) = by_area[0][0], _median(by_area), by_area[-1][0]
    return Sizes(
        sizes=((least[0], least[1]), (median[0], median[1]), (most[0], most[1])),
        ratios=(by_ratio[0][0], _median(by_ratio), by_ratio[-1][0]),
        shrinking=_median(by_scale),
        enlarged=sum(number for scale, number in by_scale if scale < 1) / total,
        cropped=sum(
            number for width, height, number in images if 1 - min(width, height) / max(width, height) > MUCH_CROPPED
        )
        / total,
    )


def _median(counted: list[tuple[_Value, int]]) -> _Value:
    """The value in the middle of sorted ones, each with how often it is there; the lower of two."""
    middle = (sum(number for _, number in counted) + 1) // 2
    for value, number in counted:
        middle -= number
        if middle <= 0:
            return value
    raise ValueError("nothing has no median")
