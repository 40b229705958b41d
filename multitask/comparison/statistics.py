"""Means, deviations, statistical tests and verdicts over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

LEVEL = 0.05
"""Probability of any wrong verdict among all claims of a table, and of a single interval missing the true value."""

MIN_SEEDS = 3
"""Smallest number of seeds to test a claim with: two differences do not show how much they vary."""

HOLDS, FAILS, UNDECIDED, TOO_FEW = "holds", "does not hold", "undecided", "too few seeds"

_SAME = 1e-9
"""Differences that vary by less than this fraction of the metrics count as equal: it is rounding."""


class Difference(NamedTuple):
    """A paired difference over seeds.

    Attributes:
        mean: mean of the differences; positive if the first row is better.
        error: standard error of the mean; None with one seed, or if all differences are equal.
        num_seeds: number of seeds that both rows have.
        other: mean of the other row's metric over these seeds.
    """

    mean: float
    error: float | None
    num_seeds: int
    other: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of this difference alone (Student's t); None without a standard error."""
        if self.error is None:
            return None
        half = float(stdtrit(self.num_seeds - 1, 1 - LEVEL / 2)) * self.error
        return self.mean - half, self.mean + half

    def p_values(self, margin: float = 0.0) -> tuple[float, float]:
        """Returns the p-values of two one-sided paired t tests of the true difference against -margin.

        The first null hypothesis is that it is at most -margin: a small p says that the first row is better, or worse
        by less than the margin. The second is that it is at least -margin: a small p says that the first row is worse
        by more than the margin. The two add up to 1; without a standard error both are 1.
        """
        if self.error is None:
            return 1.0, 1.0
        t = (self.mean + margin) / self.error
        return float(stdtr(self.num_seeds - 1, -t)), float(stdtr(self.num_seeds - 1, t))


class Decision(NamedTuple):
    """The decision on a claim.

    Attributes:
        verdict: one of `HOLDS`, `FAILS`, `UNDECIDED` and `TOO_FEW`.
        p: the smaller of its two p-values, corrected; None if it was not tested.
    """

    verdict: str
    p: float | None


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns mean and sample standard deviation (None for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(
    better: Mapping[int, float], worse: Mapping[int, float], higher_is_better: bool
) -> Difference | None:
    """Returns the paired difference of two rows over the seeds that both have; None without any.

    Args:
        better: a metric by seed, of the row that is claimed to be better.
        worse: the same metric of the other row.
        higher_is_better: direction of the metric.
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
    """Decides the claims of one table.

    The two one-sided tests of all claims with enough seeds are one family, and are corrected together. Of a claim's two
    null hypotheses at least one is true. The probability of rejecting any true one in the table is at most `LEVEL`,
    however the claims depend on each other.

    Args:
        claims: difference (None without a common seed) and margin of each claim.
    """
    tested = [place for place, (found, _) in enumerate(claims) if found and found.num_seeds >= MIN_SEEDS]
    pairs = [found.p_values(margin) for found, margin in (claims[place] for place in tested) if found]
    corrected = holm([p for pair in pairs for p in pair])
    decisions = [Decision(TOO_FEW, None)] * len(claims)
    for place, above, below in zip(tested, corrected[::2], corrected[1::2], strict=True):
        verdict = HOLDS if above <= LEVEL else FAILS if below <= LEVEL else UNDECIDED
        decisions[place] = Decision(verdict, min(above, below))
    return decisions


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected by Holm's step-down method; a test rejects if its corrected p is at most the level.

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
    """Returns Delta m: the mean relative improvement of metrics on single-task networks; None if a metric is missing.

    Args:
        figures: metrics by name.
        single: the same metrics of single-task networks.
        higher_is_better: direction of each metric that counts.
    """
    if not all(key in figures and single.get(key) for key in higher_is_better):
        return None
    return statistics.fmean(
        (1 if higher else -1) * (figures[key] - single[key]) / single[key] for key, higher in higher_is_better.items()
    )
