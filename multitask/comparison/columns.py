"""The metrics by which rows are compared, one column each: those of the paper's table 1, and Delta m."""

from typing import NamedTuple

from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic


class Column(NamedTuple):
    """The presentation of a metric in tables.

    Attributes:
        title: heading, with the unit.
        scale: factor from the metric to the unit of the heading.
        higher_is_better: direction of the metric.
    """

    title: str
    scale: float
    higher_is_better: bool


IOU, VECTOR, DISPARITY = f"{Semantic.name}/iou_class", f"{Instance.name}/mean_error_px", f"{Depth.name}/mean_error_px"

OF_TASK: dict[str, str] = {Semantic.name: IOU, Instance.name: VECTOR, Depth.name: DISPARITY}
"""Task -> its metric in table 1."""

TABLE1: dict[str, Column] = {
    IOU: Column("IoU, %", 100.0, True),
    VECTOR: Column("instance error, px", 1.0, False),
    DISPARITY: Column("disparity error, px", 1.0, False),
}

HIGHER_IS_BETTER: dict[str, bool] = {key: column.higher_is_better for key, column in TABLE1.items()}

IMPROVEMENT = "improvement"
"""Key of Delta m, which is computed from a run's metrics and those of the single-task runs with its seed."""

COLUMNS: dict[str, Column] = {**TABLE1, IMPROVEMENT: Column("Delta m, %", 100.0, True)}
