"""Whether `review drift` keeps its promise: `.venv/bin/python -m benchmarks.drift`.

null    logs of pictures that have not drifted: how often the report calls something drift; 5 % is what it promises
power   logs that have drifted by a stated size: how often one test alone finds it, beside what theory says. Of class
        shares, the noncentral χ² distribution (Cohen, "Statistical power analysis", 1988); of confidences, the limit of
        D, the supremum of a Brownian bridge plus the difference of the distributions (van der Vaart, "Asymptotic
        Statistics", 1998, 19.3), simulated on its own

Confidences are drawn by class, so that the tests are as dependent as those of a real log. A share of them is 1.0000.
"""

import argparse
import math

import numpy as np

from review.drift.facts import Sample, distances
from review.drift.homogeneity import chi_square, holm, kolmogorov_smirnov
from review.significance import LEVEL

# Classes, pictures in the log and in its reference, the share of confidences that are 1.0000, and whether sizes are
# compared.
SETTINGS = (
    (10, 1_000, 272, 0.0, False),
    (10, 300, 272, 0.9, False),
    (2, 100, 272, 0.95, False),
    (100, 500, 1_000, 0.5, False),
    (10, 2_000, 2_000, 0.7, True),
)
_STEPS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description="Size and power of the tests.")
    parser.add_argument("--logs", type=int, default=2_000, help="simulated logs of each kind (default: 2000)")
    parser.add_argument("--draws", type=int, default=999, help="permutations of each test (default: 999)")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    for setting in SETTINGS:
        share, alone = false_alarms(*setting, arguments.logs, arguments.draws, generator)
        classes, here, before, saturated, sizes = setting
        print(
            f"null:  {classes:3} classes, {here:,} pictures against {before:,}, {saturated:.0%} of confidences 1.0000"
            f"{', with sizes' if sizes else ''}: {share:.1%} of {arguments.logs:,} reports call drift; alone "
            f"{', '.join(f'{name} {value:.1%}' for name, value in alone.items())}",
            flush=True,
        )
    for classes, here, before, moved in ((10, 1_000, 272, 0.08), (10, 1_000, 272, 0.12), (2, 300, 300, 0.1)):
        found, theory = class_power(classes, here, before, moved, arguments.logs, arguments.draws, generator)
        print(
            f"power: {classes} classes, {here:,} pictures against {before:,}, {moved:.0%} of pictures moved to one "
            f"class: found {found:.1%}; theory {theory:.1%}",
            flush=True,
        )
    for here, before, lower in ((1_000, 272, 0.15), (1_000, 272, 0.2), (300, 1_000, 0.15)):
        found, theory = confidence_power(here, before, lower, arguments.logs, arguments.draws, generator)
        print(
            f"power: confidences, {here:,} pictures against {before:,}, {lower:.0%} of them drawn from a lower "
            f"distribution: found {found:.1%}; theory {theory:.1%}",
            flush=True,
        )


def false_alarms(
    classes: int,
    here: int,
    before: int,
    saturated: float,
    sizes: bool,
    logs: int,
    draws: int,
    generator: np.random.Generator,
) -> tuple[float, dict[str, float]]:
    """The share of reports on logs without drift that call something drift, and of those in which each test alone,
    without correction, does."""
    shares = generator.dirichlet(np.full(classes, 3.0))
    alarms = 0
    alone: dict[str, int] = {}
    for number in range(logs):
        samples = [answers(shares, count, saturated, sizes, generator) for count in (here, before)]
        tests = distances(samples[0], samples[1], classes, seed=number, draws=draws)
        alarms += min(holm([test.p_value for test in tests.values()])) < LEVEL
        for name, test in tests.items():
            alone[name] = alone.get(name, 0) + (test.p_value < LEVEL)
    return alarms / logs, {name: count / logs for name, count in alone.items()}


def answers(shares: np.ndarray, count: int, saturated: float, sizes: bool, generator: np.random.Generator) -> Sample:
    """Answers of an imagined model, whose confidence depends on the class, to pictures of a few usual sizes."""
    labels = generator.choice(len(shares), count, p=shares)
    confidences = 1 - generator.beta(0.5, 3 + 5 * labels / len(shares))
    confidences[generator.random(count) < saturated] = 1
    side = generator.choice([240, 480, 720, 1080], count)
    width = np.where(generator.random(count) < 0.7, side * 4 // 3, side)
    return Sample("", labels, confidences, (width, side) if sizes else "")


def class_power(
    classes: int, here: int, before: int, moved: float, logs: int, draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """How often a log is found of whose pictures a share has gone from the other classes to the first."""
    from scipy.stats import chi2, ncx2

    old = np.full(classes, 1 / classes)
    new = old * (1 - moved)
    new[0] += moved
    pairs = zip(generator.multinomial(here, new, logs), generator.multinomial(before, old, logs), strict=True)
    found = sum(chi_square(one, other, number, draws).p_value < LEVEL for number, (one, other) in enumerate(pairs))
    pooled = (here * new + before * old) / (here + before)
    apart = here * before / (here + before) * float(((new - old) ** 2 / pooled).sum())
    return found / logs, float(ncx2.sf(chi2.isf(LEVEL, classes - 1), classes - 1, apart))


def confidence_power(
    here: int, before: int, lower: float, logs: int, draws: int, generator: np.random.Generator, paths: int = 20_000
) -> tuple[float, float]:
    """How often a log is found of whose confidences, once uniform, a share is drawn from their lower half.

    With F the distribution before, the log's is F + lower · min(F, 1 - F).
    """
    found = 0
    for number in range(logs):
        one, other = generator.random(here), generator.random(before)
        one[generator.random(here) < lower] *= 0.5
        found += kolmogorov_smirnov(one.round(4), other.round(4), number, draws).p_value < LEVEL
    return found / logs, _bridge_power(math.sqrt(here * before / (here + before)), lower, generator, paths)


def _bridge_power(root: float, lower: float, generator: np.random.Generator, paths: int) -> float:
    grid = np.arange(1, _STEPS + 1) / _STEPS
    shift = root * lower * np.minimum(grid, 1 - grid)
    without, found = np.empty(paths), np.empty(paths)
    for path in range(paths):
        walk = np.cumsum(generator.standard_normal(_STEPS)) / math.sqrt(_STEPS)
        bridge = walk - grid * walk[-1]
        without[path], found[path] = np.abs(bridge).max(), np.abs(bridge + shift).max()
    return float((found > np.quantile(without, 1 - LEVEL)).mean())


if __name__ == "__main__":
    main()
