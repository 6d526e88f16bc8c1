"""Figures for people: no digit that the interval beside them makes meaningless."""

import math

_MOST_DECIMALS = 3


def decimals(low: float, high: float) -> int:
    """How many decimals a percentage has with such an interval, of shares: the last is the first digit of the
    interval's half."""
    half = 100 * (high - low) / 2
    return min(_MOST_DECIMALS, max(0, -math.floor(math.log10(half)))) if half > 0 else _MOST_DECIMALS


def per_cent(share: float, low: float, high: float) -> str:
    """A share, such as 91 %."""
    return f"{100 * share:.{decimals(low, high)}f} %"


def interval(low: float, high: float) -> str:
    """An interval of shares, such as 88 to 94 %."""
    digits = decimals(low, high)
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"


def points(difference: float, low: float, high: float) -> str:
    """A difference of two shares with its interval, in percentage points."""
    digits = decimals(low, high)
    one, *ends = (f"{100 * value:+.{digits}f}" for value in (difference, low, high))
    return f"{one} points (95 % interval {ends[0]} to {ends[1]})"
