"""Benchmarks of speed, each measured together with its baseline in one process."""

from collections.abc import Sequence

from multitask.benchmark.clustering import measure_clustering
from multitask.benchmark.metric_speed import measure_metrics
from multitask.benchmark.timing import Results
from multitask.benchmark.training import measure_training
from multitask.errors import UserError

PARTS = ("training", "instances", "metrics")

__all__ = ["PARTS", "Results", "measure"]


def measure(repeats: int, parts: Sequence[str] = PARTS, num_frames: int = 4) -> Results:
    """Runs the measurements.

    Args:
        repeats: number of repetitions of each measurement, of which the median is reported.
        parts: the parts to measure, some of `PARTS`.
        num_frames: number of frames, at Cityscapes' size, for the speed of the metrics.
    Raises:
        UserError: naming the argument.
    """
    for name, number in (("repeats", repeats), ("num_frames", num_frames)):
        if not isinstance(number, int) or number < 1:
            raise UserError(f"{name}: needed a whole number above zero, found {number}")
    if not isinstance(parts, Sequence) or not parts or not set(parts) <= set(PARTS):
        raise UserError(f"parts: needed some of {list(PARTS)}, found {parts}")
    results: Results = {}
    if "training" in parts:
        results |= measure_training(repeats)
    if "instances" in parts:
        results |= measure_clustering(repeats)
    if "metrics" in parts:
        results |= measure_metrics(repeats, num_frames)
    return results
