"""Execution of a plan: one process per run, which resumes if it is killed."""

import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from multitask.comparison import progress, results
from multitask.comparison.plan import Job, Plan
from multitask.comparison.results import Result
from multitask.comparison.starts import PRETRAINED, check_start, start_in_words
from multitask.config.factories import Config
from multitask.data.parallel import die_with_parent
from multitask.engine.finite import Diverged
from multitask.engine.history import read_history
from multitask.engine.interruption import Interrupted, deferred_signals
from multitask.errors import UserError
from multitask.files import exclusive, make_folder
from multitask.runs.paths import METRICS, read_figures
from multitask.runs.same_run import flatten, is_free

log = logging.getLogger(__name__)

_POLL, _REDRAW = 0.2, 2.0  # seconds
_LOG = "log.txt"
"""Suffix of the files with the output of runs."""


@dataclass
class _Running:
    """A job and its process."""

    job: Job
    process: "subprocess.Popen[bytes]"


class Runner:
    """Executes the runs of a plan that have no result yet.

    Args:
        plan: the plan.
        folder: parent of the runs' folders; the checkpoints of a run are deleted when it is done.
        results_dir: folder of the result files, the only files of finished runs that are read.
        compose: returns the configuration of a run for arguments of ``scripts/train.py``.
        base: arguments that all runs have in common.
        places: see `multitask.comparison.places.find_places`; each takes one run at a time.
        compute: precision and device, to be saved in the results.
        frames: describes a split's frames in a run, see `multitask.comparison.frames.FramesOfRuns.describe`; results
            with other frames are refused.
        script: path of ``scripts/train.py``.

    Attributes:
        results: results by key of the job.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        results_dir: Path,
        compose: Callable[[Sequence[str]], Mapping[str, Any]],
        base: Sequence[str],
        places: Sequence[Mapping[str, str]],
        compute: str,
        frames: Callable[[str, Config], str],
        script: Path,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.results_dir = results_dir
        self.compose = compose
        self.base = list(base)
        self.places = list(places)
        self.compute = compute
        self.frames = frames
        self.script = script
        self.failed: dict[str, str] = {}
        """Key of a job -> the reason of its failure, such as the last line that it printed."""
        self.results: dict[str, Result] = {}
        self._stop: list[int] = []
        self._display = progress.Display()

    def load(self) -> None:
        """Reads the existing results, including those of jobs that become known from other results.

        Raises:
            UserError: naming the file, if one is damaged or belongs to another configuration.
        """
        for job in self._unread():
            self._read(job)

    def run(self) -> None:
        """Executes all runs that are left.

        Raises:
            Interrupted: after a signal, once the running processes have saved their state.
        """
        running: dict[int, _Running] = {}
        shown = -_REDRAW
        with exclusive(self.folder, "running comparisons"), deferred_signals(self._stop), _ended(running):
            self.load()  # again: another runner may have finished some meanwhile
            for left in self._todo({}):
                self._is_possible(left)  # so that failures are reported before anything runs
            while not self._stop and (self._todo(running) or running):
                while (place := self._free_place(running)) is not None:
                    job = next(filter(self._is_possible, self._todo(running)), None)
                    if job is None:
                        break
                    running[place] = self._start(job, self.places[place])
                    if not self._display.live:
                        log.info("%s; running %s", self._summary(running), job.key)
                for place, run in list(running.items()):
                    if run.process.poll() is not None:
                        del running[place]
                        self._finish(run)
                if time.monotonic() > shown + _REDRAW:
                    shown = time.monotonic()
                    self._show(running)
                time.sleep(_POLL)
            self._display.clear()
        if self._stop:
            raise Interrupted(self._stop[0], f"{len(self.results)} runs")

    def _free_place(self, running: Mapping[int, _Running]) -> int | None:
        """Returns a free place, on the GPU with the fewest runs; None if all are busy."""

        def neighbours(place: int) -> int:
            return sum(self.places[other] == self.places[place] for other in running)

        return min((place for place in range(len(self.places)) if place not in running), key=neighbours, default=None)

    def arguments(self, job: Job) -> list[str]:
        """Returns the arguments of ``scripts/train.py`` for a job, except its output_dir."""
        base_rate = self.compose([*self.base, *job.row.arguments])["optimizer"]["lr"]
        return [
            *self.base,
            *job.row.arguments,
            f"data.val_split={job.split}",
            f"optimizer.lr={base_rate * job.rate:g}",
            f"seed={job.seed}",
        ]

    def _unread(self) -> Iterator[Job]:
        """Yields jobs with unread result files; the caller reads each or notes its failure, which may add jobs."""
        while found := [job for job in self._todo({}) if self._path(job).exists()]:
            yield from found

    def _read(self, job: Job) -> None:
        path = self._path(job)
        result = results.load(path)
        results.check_config(path, result, self._config(job))
        self.results[job.key] = result

    def _todo(self, running: Mapping[int, _Running]) -> list[Job]:
        busy = {run.job.key for run in running.values()}
        known = self.plan.jobs(self.results)
        return [job for job in known if job.key not in self.results | self.failed and job.key not in busy]

    def _config(self, job: Job) -> dict[str, Any]:
        return self._in_results(job, self.compose(self.arguments(job)))

    def _in_results(self, job: Job, config: Config) -> dict[str, Any]:
        """Returns a configuration as results keep it: flat, without free keys, with frames and content of the start."""
        frames = {
            "data.frames": self.frames(job.split, config),
            "data.train_frames": self.frames("train", config),
        }
        flat = {key: value for key, value in flatten(config).items() if not is_free(key) and key != PRETRAINED}
        return flat | frames | start_in_words(config)

    def _is_possible(self, job: Job) -> bool:
        """Whether a job can be configured; if not, the failure is noted, and the other jobs run."""
        try:
            config = self.compose(self.arguments(job))
            self._in_results(job, config)
            check_start(config)
        except UserError as error:
            self._note_failure(job, str(error))
            return False
        return True

    def _path(self, job: Job) -> Path:
        return self.results_dir / f"{job.key}.json"

    def _start(self, job: Job, environment: Mapping[str, str]) -> _Running:
        folder = self.folder / job.key
        make_folder(folder.parent)
        command = [sys.executable, str(self.script), *self.arguments(job), f"output_dir={folder}"]
        with open(f"{folder}.{_LOG}", "ab") as output:
            # In a new session: Ctrl-C reaches only the runner, which passes it on once.
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        return _Running(job, process)

    def _finish(self, run: _Running) -> None:
        job, folder = run.job, self.folder / run.job.key
        figures: results.Figures = {}
        if run.process.returncode:
            why = _last_line(Path(f"{folder}.{_LOG}"), run.process.returncode)
            # Divergence is a result, which a second run would repeat; every other failure may be corrected.
            if run.process.returncode != Diverged.status:
                self._note_failure(job, why)
                return
            self._display.clear()
            log.warning("%s diverged: %s", job.key, why)
        else:
            try:
                figures = read_figures(folder / METRICS)
            except UserError as error:
                self._note_failure(job, str(error))
                return
            # After the last update no loss is computed that would show that the network has diverged.
            if broken := [key for key, value in figures.items() if not math.isfinite(value)]:
                self._display.clear()
                log.warning("%s diverged: %s is %s", job.key, broken[0], figures[broken[0]])
                figures = {}
        history = read_history(folder)
        config = self._config(job)
        result = results.make_result(
            job.row.name, job.split, job.rate, job.seed, config, figures, self.compute, history
        )
        results.save(self._path(job), result)
        self.results[job.key] = result
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for found in self._unread():  # jobs that this result makes known may be done already
            try:
                self._read(found)
            except UserError as error:  # the other jobs still run
                self._note_failure(found, str(error))

    def _note_failure(self, job: Job, why: str) -> None:
        self.failed[job.key] = why
        self._display.clear()
        log.error("%s failed: %s", job.key, why)

    def _summary(self, running: Mapping[int, _Running]) -> str:
        return progress.summary(self.plan, self.results, self.failed.keys(), len(running), len(self.places))

    def _show(self, running: Mapping[int, _Running]) -> None:
        if self._display.live:
            jobs = [(run.job, _how_far(self.folder / run.job.key)) for run in running.values()]
            rows = progress.table(self.plan, self.results, self.failed.keys(), jobs)
            self._display.show([self._summary(running), "", *rows])


@contextmanager
def _ended(running: Mapping[int, _Running]) -> Iterator[None]:
    """Terminates the processes that still run at the end of ``with``, and waits until they have saved their state."""
    try:
        yield
    finally:
        for run in running.values():
            run.process.send_signal(signal.SIGTERM)
        for run in running.values():
            run.process.wait()


def _how_far(folder: Path) -> str:
    steps = [f"{entry['step']:.0f}" for entry in read_history(folder)[-1:]]
    return f"at step {steps[0]}" if steps else "starts"


def _last_line(path: Path, status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {status}"
