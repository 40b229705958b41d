"""What a network should know before it sees few labelled frames: rows of every start with every number of frames."""

from multitask.comparison.columns import OF_TASK
from multitask.comparison.orderings import better
from multitask.comparison.rows import Ordering, Row

FRAMES = (18, 36, 72, 144)
"""Labelled frames to train on: five folds of 180 frames leave 144."""

_RATED_WITH = 72
"""Frames with which each start's learning rate is chosen: the most of `FRAMES` that those held out leave."""

STARTS = {
    "scratch": "from scratch",
    "embedded": "from the embedded set",
    "imagenet": "from ImageNet",
    "imagenet_embedded": "from ImageNet, then the embedded set",
}
"""Key of ``starts`` in the configuration, which says what ``model.pretrained`` is, and how tables call it."""


def _row(start: str, frames: int, name: str, *overrides: str, rated_as: Row | None = None) -> Row:
    given = ("weighting=uncertainty", f"model.pretrained=${{starts.{start}}}", f"data.draw={frames}", *overrides)
    if start == "scratch":  # a pretrained encoder learns at a lower rate, an untrained one at the full rate
        given += ("optimizer.encoder_lr_factor=1",)
    return Row(name, f"{STARTS[start]}, {frames} frames", tuple(OF_TASK), given, rated_as=rated_as)


def _rows_of(start: str) -> dict[float, Row]:
    """By the number of frames; with none held out, since the largest number may be all of them."""
    rated = _row(start, _RATED_WITH, f"{start}-rate")
    return {frames: _row(start, frames, f"{start}-{frames}", "data.held_out=0", rated_as=rated) for frames in FRAMES}


_BY_START = {start: _rows_of(start) for start in STARTS}

CURVES = {STARTS[start]: rows for start, rows in _BY_START.items()}

ROWS = [row for rows in _BY_START.values() for row in rows.values()]


def claims() -> list[Ordering]:
    """That any start is better than none, and that the embedded set adds something to ImageNet."""
    pairs = [("embedded", "scratch"), ("imagenet", "scratch"), ("imagenet_embedded", "imagenet")]
    return [
        claim
        for one, other in pairs
        for frames in FRAMES
        for claim in better(_BY_START[one][frames], _BY_START[other][frames])
    ]
