"""Whether review's test of two models keeps its promise: `.venv/bin/python -m benchmarks.significance`.

null    pairs of equally good predictors: how often the test calls one better; 5 % is what it promises
power   pairs of which one is better by a stated gain: how often the test finds it, beside what theory says, the normal
        approximation of McNemar's test (Connor, "Sample size for testing differences in proportions for the
        paired-sample design", 1987)

A pair is simulated by how many of its test images change from wrong to right and from right to wrong.
"""

import argparse
from statistics import NormalDist

import numpy as np

from review.significance import LEVEL, mcnemar_exact, mcnemar_mid_p

# Images in the test split, and the share of them on which one predictor alone is right.
SETTINGS = ((360, 0.06), (360, 0.1), (360, 0.2), (10_000, 0.02), (10_000, 0.1))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.significance", description="Size and power of the test."
    )
    parser.add_argument("--pairs", type=int, default=5000, help="simulated pairs of each kind (default: 5000)")
    pairs = parser.parse_args().pairs
    generator = np.random.default_rng(0)
    for images, disagreement in SETTINGS:
        mid, exact = found(images, disagreement, 0.0, pairs, generator)
        print(f"null:  {images:6} images, {disagreement:.0%} disagree: mid-p {mid:.2%}, exact {exact:.2%} of {pairs}")
    for images, disagreement in SETTINGS:
        for wanted in (0.5, 0.8):
            gain = gain_found(images, disagreement, wanted)
            mid, exact = found(images, disagreement, gain, pairs, generator)
            print(
                f"power: {images:6} images, {disagreement:.0%} disagree, true gain {100 * gain:.2f} points: mid-p "
                f"{mid:.1%}, exact {exact:.1%}; theory {power(images, disagreement, gain):.1%}"
            )


def found(
    images: int, disagreement: float, gain: float, pairs: int, generator: np.random.Generator
) -> tuple[float, float]:
    """The shares of simulated pairs that the mid-p and the exact test call significant."""
    up, down = (disagreement + gain) / 2, (disagreement - gain) / 2
    counts = generator.multinomial(images, (up, down, 1 - disagreement), pairs)
    results = [(mcnemar_mid_p(*pair), mcnemar_exact(*pair)) for pair in counts[:, :2].tolist()]
    mid, exact = (np.mean([result[kind] < LEVEL for result in results]) for kind in (0, 1))
    return float(mid), float(exact)


def power(images: int, disagreement: float, gain: float) -> float:
    """How often theory finds a true gain."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - LEVEL / 2)
    return normal.cdf((gain * images**0.5 - z * disagreement**0.5) / (disagreement - gain**2) ** 0.5)


def gain_found(images: int, disagreement: float, wanted: float) -> float:
    """The gain that theory finds in the `wanted` share of cases."""
    low, high = 0.0, disagreement
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(images, disagreement, middle) < wanted else (low, middle)
    return low


if __name__ == "__main__":
    main()
