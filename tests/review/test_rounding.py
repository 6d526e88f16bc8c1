"""No digit that the interval makes meaningless."""

import pytest

from review.rounding import interval, per_cent, points


@pytest.mark.parametrize(
    ("share", "low", "high", "expected"),
    [
        (0.9673, 0.9258, 0.9860, ("97 %", "93 to 99 %")),
        (0.91234, 0.9103, 0.9144, ("91.2 %", "91.0 to 91.4 %")),
        (0.912341, 0.91217, 0.91251, ("91.23 %", "91.22 to 91.25 %")),
        (0.5, 0.2, 0.8, ("50 %", "20 to 80 %")),
        (1.0, 1.0, 1.0, ("100.000 %", "100.000 to 100.000 %")),
    ],
)
def test_decimals(share: float, low: float, high: float, expected: tuple[str, str]) -> None:
    assert (per_cent(share, low, high), interval(low, high)) == expected


def test_points() -> None:
    assert points(0.0123, -0.005, 0.0296) == "+1 points (95 % interval -0 to +3)"
    assert points(-0.0123, -0.0149, -0.0099) == "-1.2 points (95 % interval -1.5 to -1.0)"
