"""Means, spreads, tests and verdicts over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

LEVEL = 0.05
"""Chance of any wrong verdict among all claims of a table, and of a single interval to miss."""

LEAST_SEEDS = 3
"""With fewer a claim is not tested: of two differences nobody can tell how much they vary."""

HOLDS, FAILS, UNDECIDED, TOO_FEW = "holds", "does not hold", "undecided", "too few seeds"

_SAME = 1e-9
"""Differences that vary by less than this share of the figures are equal, but for rounding."""


class Difference(NamedTuple):
    """A paired difference over seeds.

    Attributes:
        mean: of the differences; above zero where the first is better.
        error: standard error of the mean; None where nothing tells it: with one seed, or if all differences are equal.
        num_seeds: that both have.
        other: mean of the other row's figure over these seeds.
    """

    mean: float
    error: float | None
    num_seeds: int
    other: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % interval of this difference alone (Student's t); None without an error."""
        if self.error is None:
            return None
        half = float(stdtrit(self.num_seeds - 1, 1 - LEVEL / 2)) * self.error
        return self.mean - half, self.mean + half

    def p_values(self, margin: float = 0.0) -> tuple[float, float]:
        """Of two one-sided paired t tests: that the true difference is not above, and that it is not below, -margin.

        A small first one says that the first row is better, or worse by less than the margin; a small second one that
        it is worse, by more than the margin. They add up to 1, but without an error both are 1.
        """
        if self.error is None:
            return 1.0, 1.0
        t = (self.mean + margin) / self.error
        return float(stdtr(self.num_seeds - 1, -t)), float(stdtr(self.num_seeds - 1, t))


class Decision(NamedTuple):
    """What becomes of a claim.

    Attributes:
        verdict: one of `HOLDS`, `FAILS`, `UNDECIDED` and `TOO_FEW`.
        p: the smaller of its two p-values, corrected; None where it was not tested.
    """

    verdict: str
    p: float | None


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (of a sample; None of a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(
    better: Mapping[int, float], worse: Mapping[int, float], higher_is_better: bool
) -> Difference | None:
    """How much better one row is than another, over the seeds that both have; None without any.

    Args:
        better: a figure of merit by seed.
        worse: the same of the row that is said to be worse.
        higher_is_better: direction of the figure.
    """
    sign = 1 if higher_is_better else -1
    seeds = sorted(better.keys() & worse.keys())
    if not seeds:
        return None
    mean, deviation = mean_and_deviation([sign * (better[seed] - worse[seed]) for seed in seeds])
    largest = max(abs(row[seed]) for row in (better, worse) for seed in seeds)
    equal = deviation is None or deviation <= _SAME * largest
    error = None if equal or deviation is None else deviation / math.sqrt(len(seeds))
    return Difference(mean, error, len(seeds), statistics.fmean(worse[seed] for seed in seeds))


def decide(claims: Sequence[tuple[Difference | None, float]]) -> list[Decision]:
    """Verdicts on the claims of one table.

    The family is the two one-sided tests of each claim that has seeds enough; they are corrected together. Of a
    claim's two hypotheses at least one is true, and no more than `LEVEL` is the chance to reject any true one of the
    table, however the claims depend on each other.

    Args:
        claims: difference (None without a seed) and margin of each.
    """
    tested = [place for place, (found, _) in enumerate(claims) if found and found.num_seeds >= LEAST_SEEDS]
    pairs = [found.p_values(margin) for found, margin in (claims[place] for place in tested) if found]
    corrected = holm([p for pair in pairs for p in pair])
    decisions = [Decision(TOO_FEW, None)] * len(claims)
    for place, above, below in zip(tested, corrected[::2], corrected[1::2], strict=True):
        verdict = HOLDS if above <= LEVEL else FAILS if below <= LEVEL else UNDECIDED
        decisions[place] = Decision(verdict, min(above, below))
    return decisions


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being so many, by Holm's step-down method: at most the level where one is rejected.

    The smallest is multiplied by the number of tests, the next by one less and so on; none becomes smaller than one
    before it, or greater than 1.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(1.0, largest)
    return corrected


def mean_relative_improvement(
    figures: Mapping[str, float], single: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float | None:
    """Delta m: mean over figures of the relative improvement upon single-task networks; None if one is missing.

    Args:
        figures: values by figure.
        single: the same of networks of a single task.
        higher_is_better: direction of each figure that counts.
    """
    if not all(key in figures and single.get(key) for key in higher_is_better):
        return None
    return statistics.fmean(
        (1 if higher else -1) * (figures[key] - single[key]) / single[key] for key, higher in higher_is_better.items()
    )
