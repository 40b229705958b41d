import pytest

from multitask.comparison.columns import DISPARITY, HIGHER_IS_BETTER, IMPROVEMENT, IOU, VECTOR
from multitask.comparison.experiments import EXPERIMENTS
from multitask.comparison.orderings import as_in_paper, better, better_in_all
from multitask.comparison.rows import Ordering, Row

ALL, PAIR = ("semantic", "instance", "depth"), ("semantic", "depth")
ONE, OTHER = (Row(name, name, ALL) for name in ("one", "other"))


def test_better_is_claimed_of_the_figures_that_both_have() -> None:
    assert better(ONE, Row("pair", "pair", PAIR)) == [
        Ordering("one", "pair", IOU, True),
        Ordering("one", "pair", DISPARITY, False),
    ]


def test_better_in_all_claims_the_mean_improvement_too() -> None:
    claims = better_in_all(ONE, OTHER, margin=0.01)
    assert [claim.figure for claim in claims] == [IOU, VECTOR, DISPARITY, IMPROVEMENT]
    assert [claim.higher_is_better for claim in claims] == [True, False, False, True]
    assert {claim.margin for claim in claims} == {0.01}


def test_table1_claims_what_the_paper_s_table_says() -> None:
    claims = {(c.better, c.worse, c.figure) for c in EXPERIMENTS["table1"].orderings[: 3 * 15 + 3]}
    assert ("three", "semantic", IOU) in claims
    assert ("semantic", "equal", IOU) in claims, "unweighted losses hurt"
    assert ("semantic-instance", "three", VECTOR) in claims, "3.42 against 3.50"
    assert ("three", "searched", DISPARITY) in claims
    assert sum(figure in HIGHER_IS_BETTER for _, _, figure in claims) == 3 * 15
    assert {claim[:2] for claim in claims if claim[2] == IMPROVEMENT} == {
        ("three", "searched"),
        ("three", "equal"),
        ("searched", "equal"),
    }


def test_as_in_paper_orders_the_mean_improvement_by_the_paper_s_figures() -> None:
    single = {IOU: 0.5, VECTOR: 4.0, DISPARITY: 0.5}
    rows = [  # by 20, 0, 0 %, by 0, 50, 0 % and by -10, 0, 10 %
        Row("a", "a", ALL, (), {IOU: 0.6, VECTOR: 4.0, DISPARITY: 0.5}),
        Row("b", "b", ALL, (), {IOU: 0.5, VECTOR: 2.0, DISPARITY: 0.5}),
        Row("c", "c", ALL, (), {IOU: 0.45, VECTOR: 4.0, DISPARITY: 0.45}),
        Row("d", "d", PAIR, (), {IOU: 0.9, DISPARITY: 0.1}),
    ]
    improved = [claim for claim in as_in_paper(rows, single) if claim.figure == IMPROVEMENT]
    assert [(claim.better, claim.worse) for claim in improved] == [("b", "a"), ("b", "c"), ("a", "c")]


@pytest.mark.parametrize("name", ["table1", "weightings"])
def test_every_comparison_of_two_rows_of_all_tasks_claims_the_mean_improvement(name: str) -> None:
    claims = EXPERIMENTS[name].orderings
    vectors, improved = (
        [(c.better, c.worse, c.margin) for c in claims if c.figure == figure] for figure in (VECTOR, IMPROVEMENT)
    )
    assert improved
    assert set(improved) <= set(vectors)
    partial = {"instance", "semantic-instance", "instance-depth"}
    assert all(pair in improved for pair in vectors if not partial & set(pair[:2]))
