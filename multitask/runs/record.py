"""The record of a run: log lines, scalars, panels and final metrics."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from multitask.config.factories import Config, make_tasks
from multitask.console import duration
from multitask.data.layout import write_png
from multitask.data.loader import EncodedFrames, FrameKey, Loader
from multitask.engine.history import (
    IMAGES_PER_SECOND,
    LEARNING_RATE,
    LOSS,
    SECONDS,
    TOTAL_LOSS,
    VALIDATION,
    WEIGHT,
)
from multitask.engine.inference import Predict
from multitask.errors import UserError
from multitask.evaluation.scoring import figure_groups
from multitask.files import write_json
from multitask.reporting.panels import panel
from multitask.reporting.tables import brief, results_text
from multitask.reporting.tensorboard import Tracker
from multitask.runs.paths import METRICS, PANELS
from multitask.runs.preparation import Prepared
from multitask.runs.same_run import flatten
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


class Record:
    """The record of a run, continued from the step at which the run resumes.

    Args:
        config: configuration of the run.
        folder: folder of the run.
        prepared: the prepared run.
        predict: the prediction function of its network.
    """

    def __init__(self, config: Config, folder: Path, prepared: Prepared, predict: Predict) -> None:
        self._config = config
        self._folder = folder
        self._prepared = prepared
        self._trainer = prepared.trainer
        self._predict = predict
        self._groups = figure_groups(prepared.tasks)
        self._log_start()
        self._tracker = Tracker(folder, self._trainer.step, self._trainer.validated)

    def begin(self) -> None:
        """Starts the clock of `log_step`; a run that resumes from a validated step first logs that step's panels."""
        if self._trainer.step and self._trainer.validated == self._trainer.step:
            self._log_panels()
        self._start = time.perf_counter(), self._trainer.step

    def _log_start(self) -> None:
        prepared, schedule = self._prepared, self._trainer.schedule
        size = sum(parameter.numel() for parameter in self._trainer.objective.network.parameters())
        log.info(
            "%s: %s, %.1f M parameters, tasks %s, %d + %d frames of %d x %d px, %d steps of %d, %s",
            self._folder, self._config["model"]["encoder"], size / 1e6, "+".join(prepared.tasks), len(prepared.frames),
            len(prepared.val_frames), *prepared.val_frames.image_size, schedule.max_steps, schedule.batch_size,
            self._trainer.compute,
        )  # fmt: skip

    def log_step(self, step: int, values: dict[str, float]) -> None:
        """Logs the trainer's scalars of the last steps: losses, weights, learning rate and speed."""
        self._tracker.scalars(step, values)
        start, first = self._start
        last = self._trainer.schedule.max_steps
        left = (time.perf_counter() - start) / (step - first) * (last - step)
        losses = "  ".join(
            f"{name} {_number(values.get(LOSS + name))} x {values[WEIGHT + name]:.3g}" for name in self._prepared.tasks
        )
        log.info(
            "step %*d/%d  total %.3f = %s  lr %.2g  %.1f images/s  %s left",
            len(str(last)), step, last, values[TOTAL_LOSS], losses, values[LEARNING_RATE], values[IMAGES_PER_SECOND],
            duration(left),
        )  # fmt: skip

    def log_validation(self, figures: Mapping[str, float]) -> None:
        """Logs the metrics of a validation, with panels of two frames."""
        step = self._trainer.step
        self._tracker.scalars(step, {VALIDATION + key: value for key, value in figures.items()})
        self._log_panels()
        log.info("step %d validation: %s", step, brief(figures, self._groups))

    def _log_panels(self) -> None:
        """Logs panels of two validation frames."""
        for name, picture in self._panels(2, tall=True):
            self._tracker.image(self._trainer.step, f"val_panels/{name}", picture)

    def finish(self, figures: Mapping[str, float], elapsed: Callable[[], float]) -> None:
        """Writes the panels and ``metrics.json``, and logs the results.

        Args:
            figures: the final metrics, with those of the position prior.
            elapsed: returns the duration of the run over all its processes, in seconds.
        """
        for name, picture in self._panels(self._trainer.schedule.num_panels):
            write_png(self._folder / PANELS / f"{name}.png", picture)
        self._tracker.hyperparameters(flatten(self._config), self._columns())
        self._tracker.text(self._trainer.step, "results", results_text(figures, self._groups))
        self._tracker.scalars(self._trainer.step, {SECONDS: elapsed()})
        write_json(self._folder / METRICS, figures)

    def flush(self) -> None:
        """Writes buffered events to the disk, so that they are never older than a checkpoint."""
        self._tracker.flush()

    def close(self) -> None:
        """Writes all buffered events and closes the event file."""
        self._tracker.close()

    def _columns(self) -> list[str]:
        """The first metric of each group, even of tasks that are off: TensorBoard takes the columns from one run."""
        every: dict[str, Task] = {}
        for name in self._config["task"]:
            with suppress(UserError):  # a task that is off may lack configuration
                every |= make_tasks({**self._config, "tasks": [name]}, self._prepared.frames.classes)
        return [f"{VALIDATION}{name}/{listed[0].key}" for name, listed in figure_groups(every).items()]

    def _panels(self, number: int, tall: bool = False) -> list[tuple[str, Any]]:
        """Returns the names and the panels of ``number`` evenly spaced validation frames."""
        frames, tasks = self._prepared.val_frames, self._prepared.tasks
        spaced = dict.fromkeys(round(i * (len(frames) - 1) / max(number - 1, 1)) for i in range(number))
        panels = []
        for batch in Loader(EncodedFrames(frames, tasks), [[FrameKey(frame)] for frame in spaced], 0, pin=False):
            batch = batch.to(self._trainer.compute.device)
            panels.append((batch.names[0], panel(batch, 0, self._predict(batch.images), tasks, tall)))
        return panels


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
