"""Progress of a comparison: a table that is redrawn on a terminal; elsewhere only a line per started run."""

import shutil
import sys
from collections.abc import Mapping, Sequence, Set
from typing import TextIO

from multitask.comparison.plan import Job, Plan
from multitask.comparison.results import Result
from multitask.console import duration, markdown


def summary(plan: Plan, results: Mapping[str, Result], failed: Set[str], running: int, places: int) -> str:
    """Describes how many runs are done, failed and left, with the time left, estimated from the mean time of a run."""
    done, expected = len(results), plan.expected(results)
    left = max(expected - done - len(failed), running)
    known = [result.seconds for result in results.values() if result.seconds]
    time_left = f"about {duration(sum(known) / len(known) * left / places)} left" if known else "time left unknown"
    return f"{done} of about {expected} runs done, {len(failed)} failed, {left} left, {time_left}"


def table(plan: Plan, results: Mapping[str, Result], failed: Set[str], running: Sequence[tuple[Job, str]]) -> list[str]:
    """Returns a table with a line per row of the comparison: the runs that are done, failed, left and running.

    Args:
        plan: the plan.
        results: results of the finished runs, by key of the job.
        failed: keys of the failed jobs.
        running: jobs that are running, each with its progress in words.
    """
    cells = [["row", "done", "failed", "left", "running"]]
    jobs = plan.jobs(results)
    for name in dict.fromkeys(job.row.name for job in jobs):
        keys = {job.key for job in jobs if job.row.name == name}
        now = [(job, text) for job, text in running if job.row.name == name]
        done, broken = len(keys & results.keys()), len(keys & failed)
        left = len(keys) - done - broken - len(now)
        what = ", ".join(f"{job.key.partition('/')[2]} {text}" for job, text in now)
        cells.append([name, *(str(number or "-") for number in (done, broken, left)), what])
    return markdown(cells).splitlines()


class Display:
    """Redraws lines in place on a terminal; elsewhere shows nothing, and progress is logged instead.

    Args:
        stream: the stream to write to.

    Attributes:
        live: whether the stream is a terminal.
    """

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._shown: list[str] = []
        self.live = stream.isatty()

    def show(self, lines: Sequence[str]) -> None:
        """Replaces the lines shown before by ``lines``, cut to the size of the terminal."""
        width, height = shutil.get_terminal_size()
        fitting = [line[: width - 1] for line in lines[: height - 1]]
        if self.live and fitting != self._shown:
            self.clear()
            self._stream.write("".join(line + "\n" for line in fitting))
            self._stream.flush()
            self._shown = fitting

    def clear(self) -> None:
        """Erases the lines, so that something else can be printed."""
        if self._shown:
            self._stream.write(f"\x1b[{len(self._shown)}F\x1b[J")
            self._stream.flush()
            self._shown = []
