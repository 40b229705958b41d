"""A training run, from its configuration to its final metrics; called by ``scripts/train.py``."""

import logging
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import yaml

from multitask.config.factories import Config
from multitask.data.classes import ClassTable
from multitask.data.split import Split
from multitask.engine import checkpoint
from multitask.engine.inference import network_predictor
from multitask.engine.interruption import Waiting
from multitask.engine.memory import keep_freed_memory
from multitask.engine.trainer import Trainer
from multitask.errors import UserError
from multitask.evaluation.evaluator import Evaluator, position_prior_figures
from multitask.evaluation.scoring import score
from multitask.files import exclusive, remove_leftovers, write_text
from multitask.runs.paths import BEST, CONFIG, LAST, METRICS, PANELS, PREVIOUS, identity, read_figures
from multitask.runs.preparation import prepare
from multitask.runs.record import Record
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


class Run:
    """One training run in its folder.

    The constructor detects every fault that can be detected before training, and writes nothing.

    Args:
        config: resolved configuration (``configs/train.yaml``) of plain containers.
    Raises:
        UserError: naming the key or file.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = Path(config["output_dir"])
        self._prepare()

    def _prepare(self) -> None:
        self._identity = identity(self.folder)
        prepared = self._prepared = prepare(self.config, self.folder)
        self._predict = network_predictor(prepared.trainer.objective.network, prepared.trainer.compute)
        self._evaluator = Evaluator(prepared.val_frames, prepared.tasks, prepared.settings.evaluation)
        self._fingerprint = prepared.frames.fingerprint
        self._figures: dict[str, float] = {}  # metrics of the last validation in this process
        self.best_score = prepared.best_score
        self._last_is_undamaged = prepared.resumed_from != self.folder / PREVIOUS

    @property
    def classes(self) -> ClassTable:
        """The class table of the labels."""
        return self._prepared.frames.classes

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that have labels."""
        return self._prepared.tasks

    @property
    def trainer(self) -> Trainer:
        """The trainer, in its current state."""
        return self._prepared.trainer

    @property
    def val_frames(self) -> Split:
        """The validation split."""
        return self._prepared.val_frames

    def train(self) -> dict[str, float]:
        """Trains to the last step, evaluates, and writes ``metrics.json`` and ``panels``.

        Returns:
            The final metrics, ``<task>/<metric>``, and the position prior's, prefixed with ``position_prior/``.
        Raises:
            Interrupted: if a signal stopped the run; the next `Run` of this configuration resumes it.
        """
        if not self._is_finished():
            with exclusive(self.folder, "training"):
                if self._identity != identity(self.folder):  # another process has trained in this folder meanwhile
                    self._prepare()
                if not self._is_finished():
                    return self._train()
        log.info("%s: finished already", self.folder)
        return read_figures(self.folder / METRICS)

    def _is_finished(self) -> bool:
        return self.trainer.step == self.trainer.schedule.max_steps and (self.folder / METRICS).exists()

    def _train(self) -> dict[str, float]:
        trainer = self.trainer
        for folder in (self.folder, self.folder / LAST.parent, self.folder / PANELS):
            remove_leftovers(folder)
        if trainer.compute.device.type == "cpu":
            keep_freed_memory()
        write_text(self.folder / CONFIG, yaml.safe_dump(self.config, sort_keys=False))
        self._record = Record(self.config, self.folder, self._prepared, self._predict)
        try:
            self._record.begin()
            self._start = time.perf_counter()
            trainer.run(self._record.log_step, self._validate, lambda: self._save(LAST))
            figures = self._figures or self._evaluate()
            figures = figures | position_prior_figures(self._prepared.frames, self._evaluator)
            self._record.finish(figures, self._elapsed)
        except BaseException:
            with suppress(UserError):  # possibly of the same cause, such as a full disk: the first error is shown
                self._record.close()
            raise
        self._record.close()
        return figures

    def _validate(self, waiting: Waiting) -> None:
        figures = self._figures = self._evaluate(waiting)
        self._record.log_validation(figures)
        if (now := score(figures, self.tasks)) > self.best_score or not (self.folder / BEST).exists():
            self.best_score = now
            self._save(BEST)

    def _evaluate(self, waiting: Waiting = nullcontext) -> dict[str, float]:
        # Metrics of scenes cost as much as the predictions: they are computed for the trained network only.
        done = self.trainer.step == self.trainer.schedule.max_steps
        figures = self._evaluator.all_figures if done else self._evaluator.pixel_figures
        return figures(self._predict, waiting)

    def _save(self, path: Path) -> None:
        try:
            self._record.flush()
        finally:  # save the state even if the events cannot be written
            self._save_state(path)

    def _save_state(self, path: Path) -> None:
        own = {
            "config": dict(self.config),
            "classes": self.classes.content(),
            "tasks": list(self.tasks),
            "score": self.best_score,
            "seconds": self._elapsed(),
            "frames": self._fingerprint,
        }
        # A damaged newest checkpoint must not replace the previous one.
        previous = self.folder / PREVIOUS if path == LAST and self._last_is_undamaged else None
        checkpoint.save(self.folder / path, {**self.trainer.state(), **own}, previous)
        self._last_is_undamaged |= path == LAST

    def _elapsed(self) -> float:
        """Seconds of training and evaluation over all processes of the run."""
        return self._prepared.seconds + time.perf_counter() - self._start
