"""Terminal output of the commands: progress bars, Markdown tables and durations."""

import sys
import time
from collections.abc import Sequence


class Progress:
    """A progress bar on a terminal; elsewhere, a line for each tenth of the work.

    Args:
        unit: name of the items that are counted, such as frames.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._start = time.perf_counter()
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` items are finished."""
        seconds = time.perf_counter() - self._start
        text = f"{done}/{total} {self._unit}, {done / max(seconds, 1e-9):.0f}/s"
        if sys.stderr.isatty():
            filled = 30 * done // total
            end = "\n" if done == total else ""
            print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text} ", end=end, file=sys.stderr, flush=True)
        elif 10 * done // total > self._tenth:
            self._tenth = 10 * done // total
            print(text, file=sys.stderr, flush=True)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table with aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = (
        "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
    )
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def duration(seconds: float) -> str:
    """Formats a duration as hours and minutes, or as minutes and seconds below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
