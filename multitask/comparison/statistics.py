"""Means, spreads and verdicts over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# 97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


class Difference(NamedTuple):
    """A paired difference over seeds.

    Attributes:
        mean: of the differences; above zero where the first is better.
        low, high: ends of its 95 % interval (Student's t), infinite with fewer than two seeds.
        num_seeds: that both have.
    """

    mean: float
    low: float
    high: float
    num_seeds: int

    def verdict(self, margin: float = 0.0) -> str:
        """Whether the first is better, or worse by no more than ``margin``, as far as the interval says."""
        if self.low > -margin:
            return HOLDS
        return FAILS if self.high < -margin else UNDECIDED


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
    if deviation is None:
        return Difference(mean, -math.inf, math.inf, 1)
    half = _quantile(len(seeds) - 1) * deviation / math.sqrt(len(seeds))
    return Difference(mean, mean - half, mean + half, len(seeds))


def _quantile(freedom: int) -> float:
    """Student's t at 97.5 %: beyond the table by its expansion around the normal distribution."""
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 1.95996 + 2.3723 / freedom + 2.8225 / freedom**2


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
