"""Claims that one row is better than another, one per metric."""

import itertools
from collections.abc import Mapping, Sequence

from multitask.comparison.columns import HIGHER_IS_BETTER, IMPROVEMENT, OF_TASK
from multitask.comparison.rows import Ordering, Row
from multitask.comparison.statistics import mean_relative_improvement

AS_GOOD = 0.01
"""Margin within which a row counts as good as another: 1 % of a metric, or one point of Delta m."""


def better(one: Row, other: Row, margin: float = 0.0) -> list[Ordering]:
    """Claims that ``one`` is better in every metric of table 1 that both rows have."""
    return [
        Ordering(one.key, other.key, figure, HIGHER_IS_BETTER[figure], margin)
        for task, figure in OF_TASK.items()
        if task in one.tasks and task in other.tasks
    ]


def better_in_all(one: Row, other: Row, margin: float = 0.0) -> list[Ordering]:
    """Claims that ``one`` is better in every metric of table 1 and in Delta m; both rows must train all tasks."""
    return [*better(one, other, margin), Ordering(one.key, other.key, IMPROVEMENT, True, margin)]


def as_in_paper(rows: Sequence[Row], single: Mapping[str, float]) -> list[Ordering]:
    """Claims every ordering of two rows that the paper's table implies.

    Args:
        rows: rows with the paper's metrics.
        single: the paper's metrics of single tasks, from which Delta m follows for rows of all tasks.
    """
    figures = {row.key: dict(row.paper) for row in rows}
    for values in figures.values():
        improvement = mean_relative_improvement(values, single, HIGHER_IS_BETTER)
        if improvement is not None:
            values[IMPROVEMENT] = improvement
    claims = []
    for figure, higher in {**HIGHER_IS_BETTER, IMPROVEMENT: True}.items():
        found = {key: values[figure] for key, values in figures.items() if figure in values}
        ranked = sorted(found, key=found.__getitem__, reverse=higher)
        claims += [Ordering(a, b, figure, higher) for a, b in itertools.combinations(ranked, 2)]
    return claims
