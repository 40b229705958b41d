"""The figures by which rows are compared, a column each: those of the paper's table 1, and what they come to."""

from typing import NamedTuple

from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic


class Column(NamedTuple):
    """How a figure is shown.

    Attributes:
        title: heading, with the unit.
        scale: what the figure is multiplied by.
        higher_is_better: direction.
    """

    title: str
    scale: float
    higher_is_better: bool


IOU, VECTOR, DISPARITY = f"{Semantic.name}/iou_class", f"{Instance.name}/mean_error_px", f"{Depth.name}/mean_error_px"

OF_TASK: dict[str, str] = {Semantic.name: IOU, Instance.name: VECTOR, Depth.name: DISPARITY}
"""Task -> its figure in table 1."""

TABLE1: dict[str, Column] = {
    IOU: Column("IoU, %", 100.0, True),
    VECTOR: Column("instance error, px", 1.0, False),
    DISPARITY: Column("disparity error, px", 1.0, False),
}

HIGHER_IS_BETTER: dict[str, bool] = {key: column.higher_is_better for key, column in TABLE1.items()}

IMPROVEMENT = "improvement"
"""Delta m, which no run has but follows from its figures and from those of single tasks with its seed."""

COLUMNS: dict[str, Column] = {**TABLE1, IMPROVEMENT: Column("Delta m, %", 100.0, True)}
