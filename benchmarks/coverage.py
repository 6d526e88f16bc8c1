"""Whether the 95 % interval holds the truth in 95 of 100 test sets: `.venv/bin/python -m benchmarks.coverage`.

Simulates test sets: a predictor of known accuracy is right on each image independently. Printed per accuracy and size:
the share of test sets whose interval, by the code that evaluate uses, holds that accuracy.
"""

import argparse

import numpy as np

from stages.evaluate.intervals import wilson


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description="Coverage of the interval.")
    parser.add_argument("--sets", type=int, default=1000, help="simulated test sets of each kind (default: 1000)")
    sets = parser.parse_args().sets
    generator = np.random.default_rng(0)
    for images in (353, 10_000):
        for accuracy in (0.5, 0.8, 0.9, 0.98):
            share = covered(accuracy, images, sets, generator)
            print(f"{images:6} images, accuracy {accuracy:.2f}: {share:.3f} of {sets} intervals hold it")


def covered(accuracy: float, images: int, sets: int, generator: np.random.Generator) -> float:
    """The share of `sets` simulated test sets whose interval holds `accuracy`."""
    intervals = [wilson(int(correct), images) for correct in generator.binomial(images, accuracy, sets)]
    return sum(interval.low <= accuracy <= interval.high for interval in intervals) / sets


if __name__ == "__main__":
    main()
