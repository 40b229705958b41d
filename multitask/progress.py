"""How far long work is, for people who wait for it."""

import sys
import time


class Progress:
    """A bar on a terminal; elsewhere a line for each tenth.

    Args:
        unit: what is counted.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._start = time.perf_counter()
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are done."""
        seconds = time.perf_counter() - self._start
        text = f"{done}/{total} {self._unit}, {done / max(seconds, 1e-9):.0f}/s"
        if sys.stderr.isatty():
            filled = 30 * done // total
            end = "\n" if done == total else ""
            print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text} ", end=end, file=sys.stderr, flush=True)
        elif 10 * done // total > self._tenth:
            self._tenth = 10 * done // total
            print(text, file=sys.stderr, flush=True)
