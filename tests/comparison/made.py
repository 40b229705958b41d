"""Results and experiments that nobody trained."""

from collections.abc import Mapping

from multitask.comparison.results import Result
from multitask.comparison.rows import Choices, Experiment, Ordering, Row, fixed
from multitask.tasks.base import Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES

TASKS: dict[str, Task] = {task.name: task for task in (Semantic(CITYSCAPES), Instance(CITYSCAPES), Depth(CITYSCAPES))}
IOU, DISPARITY = "semantic/iou_class", "depth/mean_error_px"
PAIR = ("semantic", "depth")

LEARNED = Row("three", "learned", PAIR, ("weighting=uncertainty",), {IOU: 0.634, DISPARITY: 0.522})
EQUAL = Row("equal", "equal weights", PAIR, ("weighting=equal",))
SINGLE = Row("semantic", "semantic only", ("semantic",), ("weighting=equal",))
CANDIDATES = tuple(
    fixed(f"fixed{weight}", f"fixed {weight}", {"semantic": weight, "depth": 1 - weight}) for weight in (0.25, 0.75)
)


def _rows(choices: Choices) -> list[Row]:
    rows = [SINGLE, EQUAL, LEARNED]
    if choices.weights:
        title = f"{choices.weights.title}, searched"
        rows.append(Row(choices.weights.name, title, PAIR, choices.weights.overrides, role="searched"))
    return rows


EXPERIMENT = Experiment(
    "An experiment",
    _rows,
    candidates=CANDIDATES,
    orderings=[Ordering("three", "equal", IOU, True), Ordering("three", "equal", DISPARITY, False)],
    histories=["three"],
)


def result(
    row: str,
    figures: Mapping[str, float],
    split: str = "test",
    rate: float = 1,
    seed: int = 0,
    config: Mapping[str, object] | None = None,
) -> Result:
    history = [
        {"step": float(step), "loss/total": 1.0}
        | {f"{kind}/{task}": 0.5 for kind in ("loss", "weight", "sigma2", "log_variance") for task in PAIR}
        for step in (10, 100)
    ]
    return Result(
        row,
        split,
        rate,
        seed,
        dict(config or {}),
        dict(figures),
        60.0,
        "float32 on cpu",
        history if row == "three" else [],
        {"three": {"semantic": 0.5, "depth": 0.5}, "equal": {"semantic": 1.0, "depth": 1.0}}.get(row, {}),
    )
