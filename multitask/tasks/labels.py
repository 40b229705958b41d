"""Selection of the tasks that a data set has labels for."""

import logging
from collections.abc import Mapping

from multitask.data.split import LABEL_KINDS, Split
from multitask.errors import UserError
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


def tasks_with_labels(tasks: Mapping[str, Task], frames: Split, *, any_needed: bool = True) -> dict[str, Task]:
    """Returns the tasks that a split has labels for, and logs which are switched off for lack of labels.

    If the labels may differ between frames, the number of frames with each kind of label is logged, too.

    Args:
        tasks: the tasks to choose from, by name.
        frames: the split.
        any_needed: whether at least one task must be left.
    Raises:
        UserError: if no task is left and ``any_needed``.
    """
    if frames.partial:
        counts = ", ".join(f"{frames.count(kind)} with {kind}" for kind in LABEL_KINDS)
        log.info("%s: split %r has %d frames, %s", frames.where, frames.split, len(frames), counts)
    on = {}
    for name, task in tasks.items():
        if not frames.has(*task.layers):
            missing = [layer for layer in task.layers if not frames.has(layer)]
            what = " and ".join(missing) if missing else f"frames with both {' and '.join(task.layers)}"
            log.warning("task %r is off: %s has no %s for split %r", name, frames.where, what, frames.split)
            continue
        on[name] = task
        lacking: dict[str, list[str]] = {}
        for layer in task.layers:
            for where in frames.lacking(layer):
                lacking.setdefault(where, []).append(layer)
        for where, layers in lacking.items():
            log.warning("task %r without %s: no %s for split %r", name, where, " and ".join(layers), frames.split)
    if any_needed and not on:
        raise UserError(f"{frames.where}: split {frames.split!r} has no labels for any of tasks={list(tasks)}")
    return on
