from collections.abc import Mapping

import pytest

from multitask.comparison.claims import verdicts
from multitask.comparison.columns import IMPROVEMENT
from multitask.comparison.rows import Ordering
from tests.comparison.made import DISPARITY, IOU

TITLES = {"a": "first row", "b": "second row"}
Values = Mapping[str, Mapping[int, float]]


def lines(
    better: Mapping[int, float],
    worse: Mapping[int, float],
    figure: str = IOU,
    higher: bool = True,
    margin: float = 0.0,
    total: int = 1,
) -> tuple[str, list[str]]:
    """Text, and the cells, of one claim."""
    rows = {"a": better, "b": worse}
    claim = Ordering("a", "b", figure, higher, margin)
    text = verdicts([claim], total, TITLES, lambda key, _: rows[key], set())
    method, table = text.split("\n\n")
    return method, [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_verdicts_line_hand_worked() -> None:
    method, cells = lines(by_seed(0.50, 0.52, 0.54), by_seed(0.40, 0.43, 0.43), total=3)
    # t = 0.1 sqrt(3) / 0.01 with two degrees of freedom: p = 0.00166, of two tests.
    assert cells == [
        "first row",
        "better than",
        "second row",
        "IoU, %",
        "+10",
        "+7.52 to +12.5",
        "3",
        "0.0033",
        "holds",
    ]
    assert method.startswith("1 of 3 claims, each by its paired difference over seeds")
    assert "margin" not in method
    assert "equal" not in method


def test_verdicts_of_an_error_are_above_zero_where_it_is_less() -> None:
    cells = lines(by_seed(0.40, 0.43, 0.43), by_seed(0.50, 0.52, 0.54), DISPARITY, higher=False)[1]
    assert cells[4:] == ["+0.1", "+0.0752 to +0.125", "3", "0.0033", "holds"]


def test_margin_is_that_of_the_seeds_that_both_have() -> None:
    # Over the common seeds the other row's mean is 1, and 1 % of it less than the 0.02 that is lacking.
    better, worse = by_seed(0.98, 0.9801, 0.9799), by_seed(1.0, 1.0, 1.0)
    method, cells = lines(better, worse, margin=0.01)
    assert cells[1] == "as good as, within 1%"
    assert cells[-1] == "does not hold"
    assert "that share of the other row's mean over the same seeds" in method
    # Of all its seeds it would be 4, and 0.04 the margin.
    assert lines(better, worse | {3: 13.0}, margin=0.01)[1] == cells
    assert lines(better, worse, margin=0.03)[1][-1] == "holds"


def test_margin_of_a_figure_below_zero_is_no_bonus() -> None:
    better, worse = by_seed(-1.02, -1.0201, -1.0199), by_seed(-1.0, -1.0, -1.0)
    assert lines(better, worse, margin=0.01)[1][-1] == "does not hold"
    assert lines(better, worse, margin=0.03)[1][-1] == "holds"


@pytest.mark.parametrize("worse", [0.05, -0.3, 0.0])
def test_margin_of_delta_m_is_a_point(worse: float) -> None:
    method, cells = lines(
        by_seed(worse - 0.009, worse - 0.0091, worse - 0.0089), by_seed(*[worse] * 3), IMPROVEMENT, margin=0.01
    )
    assert cells[1] == "as good as, within 1 point"
    assert cells[3:5] == ["Delta m, %", "-0.9"]
    assert cells[-1] == "holds"
    assert "or so many points of Delta m" in method


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_equal_differences_are_undecided_with_the_reason(margin: float) -> None:
    method, cells = lines(by_seed(0.3, 0.4, 0.5), by_seed(0.2, 0.3, 0.4), margin=margin)
    assert cells[4:] == ["+10", "none: all equal", "3", "1", "undecided"]
    assert "nothing tells how much they would vary" in method


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        ({}, ["-", "-", "0", "-", "too few seeds"]),
        (by_seed(0.5), ["+10", "-", "1", "-", "too few seeds"]),
        (by_seed(0.5, 0.52), ["+9.5", "+3.15 to +15.9", "2", "-", "too few seeds"]),
    ],
)
def test_fewer_than_three_seeds_are_too_few(better: dict[int, float], expected: list[str]) -> None:
    method, cells = lines(better, by_seed(0.4, 0.43, 0.43))
    assert cells[4:] == expected
    assert "With fewer than 3 seeds nothing is tested." in method
    assert "Holm" not in method
    assert method.endswith("Verdicts: too few seeds 1:")


def test_verdicts_without_a_claim_are_empty() -> None:
    assert verdicts([], 3, TITLES, lambda key, figure: {}, set()) == ""
