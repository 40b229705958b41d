"""Timing of function calls."""

import statistics
import time
from collections.abc import Callable

Results = dict[str, tuple[float, str]]
"""Name of a measurement -> value and unit."""


def seconds(function: Callable[[], object]) -> float:
    """Returns the duration of one call, in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Returns the median duration of ``repeats`` calls in seconds, after a warm-up call."""
    function()
    return statistics.median(seconds(function) for _ in range(repeats))
