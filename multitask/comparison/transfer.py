"""The transfer experiment: initial weights compared at few labelled frames, a row for each start and number."""

from multitask.comparison.columns import OF_TASK
from multitask.comparison.orderings import better
from multitask.comparison.rows import Ordering, Row

FRAMES = (18, 36, 72, 144)
"""Numbers of labelled frames to train on; training on four of five folds of 180 frames leaves 144."""

_RATED_WITH = 72
"""Number of frames with which each learning rate is chosen: the largest of `FRAMES` left by the held-out ones."""

STARTS = {
    "scratch": "from scratch",
    "embedded": "from the embedded set",
    "imagenet": "from ImageNet",
    "imagenet_embedded": "from ImageNet, then the embedded set",
}
"""Key in the configuration's group ``starts``, whose value is used as ``model.pretrained`` -> name in tables."""


def _row(start: str, frames: int, name: str, *overrides: str, rated_as: Row | None = None) -> Row:
    given = ("weighting=uncertainty", f"model.pretrained=${{starts.{start}}}", f"data.draw={frames}", *overrides)
    if start == "scratch":  # a pretrained encoder learns at a lower rate, an untrained one at the full rate
        given += ("optimizer.encoder_lr_factor=1",)
    return Row(name, f"{STARTS[start]}, {frames} frames", tuple(OF_TASK), given, rated_as=rated_as)


def _rows_of(start: str) -> dict[float, Row]:
    """Returns the rows of a start by number of frames; none are held out, since the largest number may be all."""
    rated = _row(start, _RATED_WITH, f"{start}-rate")
    return {frames: _row(start, frames, f"{start}-{frames}", "data.held_out=0", rated_as=rated) for frames in FRAMES}


_BY_START = {start: _rows_of(start) for start in STARTS}

CURVES = {STARTS[start]: rows for start, rows in _BY_START.items()}

ROWS = [row for rows in _BY_START.values() for row in rows.values()]


def claims() -> list[Ordering]:
    """Claims that any pretraining is better than none, and that the embedded set improves on ImageNet alone."""
    pairs = [("embedded", "scratch"), ("imagenet", "scratch"), ("imagenet_embedded", "imagenet")]
    return [
        claim
        for one, other in pairs
        for frames in FRAMES
        for claim in better(_BY_START[one][frames], _BY_START[other][frames])
    ]
