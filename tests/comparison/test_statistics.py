import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from multitask.comparison.statistics import (
    FAILS,
    HOLDS,
    TOO_FEW,
    UNDECIDED,
    Decision,
    Difference,
    decide,
    holm,
    mean_and_deviation,
    mean_relative_improvement,
    paired_difference,
)

SEEDS = [2, 3, 5, 31, 500]


def of(differences: Sequence[float], other: float = 1.0) -> Difference:
    """A paired difference with these values."""
    found = paired_difference({i: other + d for i, d in enumerate(differences)}, dict.fromkeys(range(500), other), True)
    assert found is not None
    return found


def test_mean_and_deviation_hand_worked() -> None:
    assert mean_and_deviation([1.0, 3.0, 5.0]) == (3.0, 2.0)
    assert mean_and_deviation([4.0]) == (4.0, None)


@pytest.mark.parametrize("num_seeds", SEEDS)
@pytest.mark.parametrize("higher", [True, False])
def test_paired_difference_is_that_of_a_paired_t_test(num_seeds: int, higher: bool) -> None:
    rng = np.random.default_rng(num_seeds)
    first, second = rng.normal(size=(2, num_seeds)).tolist()
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)), higher)
    assert found is not None
    pair = (first, second) if higher else (second, first)
    assert found.mean == pytest.approx(np.mean(pair[0]) - np.mean(pair[1]))
    assert found.interval == pytest.approx(tuple(stats.ttest_rel(*pair).confidence_interval(0.95)))
    p_values = [stats.ttest_rel(*pair, alternative=alternative).pvalue for alternative in ("greater", "less")]
    assert found.p_values() == pytest.approx(p_values)


@pytest.mark.parametrize("num_seeds", SEEDS)
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_p_values_with_a_margin_are_those_of_shifted_differences(num_seeds: int, margin: float) -> None:
    differences = np.random.default_rng(num_seeds).normal(size=num_seeds)
    expected = [
        stats.ttest_1samp(differences, -margin, alternative=alternative).pvalue for alternative in ("greater", "less")
    ]
    assert of(differences).p_values(margin) == pytest.approx(expected)
    assert sum(of(differences).p_values(margin)) == pytest.approx(1)


def test_p_values_hand_worked() -> None:
    # With two degrees of freedom P(T > t) = (1 - t / sqrt(t^2 + 2)) / 2. Mean 2, deviation 1, standard error 0.577.
    found = of([1.0, 2.0, 3.0])
    assert found.error == pytest.approx(1 / math.sqrt(3))
    for margin, t in ((0.0, 2 * math.sqrt(3)), (1.0, 3 * math.sqrt(3)), (-4.0, -2 * math.sqrt(3))):
        above = (1 - t / math.sqrt(t * t + 2)) / 2
        assert found.p_values(margin) == pytest.approx((above, 1 - above))
    assert found.interval == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))


def test_paired_difference_is_over_the_seeds_that_both_have() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 1.0, 5: 0.0}, higher_is_better=True)
    assert found is not None
    assert (found.mean, found.num_seeds, found.other) == (0.75, 2, 0.75)
    assert paired_difference({0: 1.0}, {1: 1.0}, higher_is_better=True) is None


def test_one_seed_tells_no_error() -> None:
    found = paired_difference({0: 2.0}, {0: 1.0}, higher_is_better=True)
    assert found == Difference(1.0, None, 1, 1.0)
    assert found.interval is None


@pytest.mark.parametrize("differences", [[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [-2.0] * 5])
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_equal_differences_tell_no_error_and_decide_nothing(differences: list[float], margin: float) -> None:
    # Of 0.7 - 0.6 and 0.3 - 0.2 the floating point makes two numbers that differ by 1e-17.
    better = {seed: 0.2 + 0.1 * seed + value for seed, value in enumerate(differences)}
    found = paired_difference(better, {seed: 0.2 + 0.1 * seed for seed in better}, higher_is_better=True)
    assert found is not None
    assert (found.error, found.interval) == (None, None)
    assert decide([(found, margin)]) == [Decision(UNDECIDED, 1.0)]


def test_differences_that_all_but_agree_are_told_from_equal_ones() -> None:
    found = of([0.1, 0.1, 0.1 + 1e-6])
    assert found.error == pytest.approx(1e-6 / 3)
    assert decide([(found, 0.0)])[0].verdict == HOLDS


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ([1.0, 2.0, 3.0], 0.0, UNDECIDED),  # p = 0.037 one-sided, twice that for two tests
        ([1.8, 2.0, 2.2], 0.0, HOLDS),
        ([-1.8, -2.0, -2.2], 0.0, FAILS),
        ([-0.1, 0.0, 0.1], 1.0, HOLDS),
        ([-1.8, -2.0, -2.2], 3.0, HOLDS),
        ([-1.8, -2.0, -2.2], 1.0, FAILS),
        ([-1.8, -2.0, -2.2], 2.0, UNDECIDED),
        ([1.9, 2.1], 0.0, TOO_FEW),
        ([2.0], 0.0, TOO_FEW),
    ],
)
def test_decide_of_one_claim_follows_its_interval(differences: list[float], margin: float, verdict: str) -> None:
    found = of(differences)
    assert decide([(found, margin)])[0].verdict == verdict
    if verdict != TOO_FEW:
        low, high = found.interval or (math.nan, math.nan)
        assert verdict == (HOLDS if low > -margin else FAILS if high < -margin else UNDECIDED)


def test_decide_without_a_seed_in_common_has_too_few() -> None:
    assert decide([(None, 0.0), (of([1.0, 2.0]), 0.0)]) == [Decision(TOO_FEW, None)] * 2
    assert decide([]) == []


def test_decide_corrects_for_the_claims_that_are_tested_alone() -> None:
    strong, weak = of([1.8, 2.0, 2.2]), of([1.0, 2.0, 3.0])
    p = strong.p_values()[0]
    decisions = decide([(weak, 0.0), (of([2.0, 2.1]), 0.0), (strong, 0.0), (None, 0.0)])
    assert [decision.verdict for decision in decisions] == [UNDECIDED, TOO_FEW, HOLDS, TOO_FEW]
    assert decisions[2].p == pytest.approx(4 * p), "the least of the four p-values of two claims"
    assert decisions[0].p == pytest.approx(3 * weak.p_values()[0])


def test_decide_asks_more_of_a_claim_among_many() -> None:
    claim = (of([1.8, 2.0, 2.2]), 0.0)  # p = 0.0017
    others = [(of([-0.1, 0.0, 0.1]), 0.0)]
    assert [decide([claim, *others * number])[0].verdict for number in (0, 14, 15, 40)] == [
        HOLDS,
        HOLDS,
        UNDECIDED,
        UNDECIDED,
    ]


def test_holm_hand_worked() -> None:
    # 4 x 0.01, 3 x 0.013, which may not fall below the one before, 2 x 0.03 and 0.9.
    assert holm([0.03, 0.01, 0.9, 0.013]) == pytest.approx([0.06, 0.04, 0.9, 0.04])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def _rejected(p_values: Sequence[float], level: float) -> list[bool]:
    """Holm's method in his own words: reject from the smallest on, as long as p <= level / (number of those left)."""
    rejected = [False] * len(p_values)
    left = list(range(len(p_values)))
    while left:
        least = min(left, key=lambda place: p_values[place])
        if p_values[least] > level / len(left):
            break
        rejected[least] = True
        left.remove(least)
    return rejected


@pytest.mark.parametrize("seed", range(50))
def test_holm_rejects_what_the_method_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_values = (rng.random(rng.integers(1, 40)) ** rng.integers(1, 6)).tolist()
    for level in (0.01, 0.05, 0.3):
        assert [p <= level for p in holm(p_values)] == _rejected(p_values, level)


def test_decide_is_wrong_in_at_most_a_twentieth_of_tables_without_differences() -> None:
    # Ten claims about six rows that are alike, five seeds each: without correction every fourth table has a verdict.
    rng = np.random.default_rng(0)
    wrong, alone, number = 0, 0, 600
    for _ in range(number):
        rows = [dict(enumerate(values)) for values in rng.normal(10, 1, size=(6, 5)).tolist()]
        pairs = [(rows[0], row) for row in rows[1:]] + [(rows[1], row) for row in rows[2:]] + [(rows[2], rows[3])]
        found = [(paired_difference(*pair, True), 0.0) for pair in pairs]
        wrong += any(decision.verdict != UNDECIDED for decision in decide(found))
        alone += any(decide([claim])[0].verdict != UNDECIDED for claim in found)
    assert alone > 0.2 * number
    assert 0 < wrong <= 0.05 * number


def test_mean_relative_improvement_hand_worked() -> None:
    better = {"iou": True, "error": False}
    single = {"iou": 0.5, "error": 2.0}
    assert mean_relative_improvement({"iou": 0.6, "error": 1.5}, single, better) == pytest.approx((0.2 + 0.25) / 2)
    assert mean_relative_improvement({"iou": 0.5, "error": 2.0}, single, better) == 0
    assert mean_relative_improvement({"iou": 0.6}, single, better) is None
    assert mean_relative_improvement({"iou": 0.6, "error": 1.5}, {"iou": 0.5}, better) is None
