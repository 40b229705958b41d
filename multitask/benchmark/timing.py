"""How long calls take."""

import statistics
import time
from collections.abc import Callable

Results = dict[str, tuple[float, str]]
"""Name of a measurement -> value and unit."""


def seconds(function: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median of ``repeats`` calls, after one that does not count."""
    function()
    return statistics.median(seconds(function) for _ in range(repeats))
