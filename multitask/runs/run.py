"""A training run from its configuration to its figures: what ``scripts/train.py`` calls."""

import logging
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from multitask.config import factories as build
from multitask.config.factories import Config
from multitask.console import duration
from multitask.data.layout import write_png
from multitask.data.loader import EncodedFrames, FrameKey, Loader
from multitask.engine import checkpoint
from multitask.engine.arithmetic import check_gradients
from multitask.engine.inference import network_predictor
from multitask.engine.interruption import Waiting
from multitask.engine.memory import keep_freed_memory
from multitask.engine.objective import Objective
from multitask.engine.optimization import check_frozen
from multitask.engine.schedule import check_compiler, check_weighting
from multitask.engine.trainer import Trainer
from multitask.errors import UserError
from multitask.evaluation.checkpoint_evaluation import Evaluation
from multitask.evaluation.figures import score
from multitask.evaluation.scenes import figure_groups
from multitask.files import exclusive, remove_leftovers, write_json, write_text
from multitask.reporting.panels import panel
from multitask.reporting.tables import brief, results_text
from multitask.reporting.tensorboard import SECONDS, VALIDATION, Tracker, read_figures
from multitask.runs import resume
from multitask.runs.resume import BEST, CONFIG, LAST, METRICS, PREVIOUS
from multitask.tasks.base import Task

log = logging.getLogger(__name__)

_PANELS = "panels"

_MEMORY = 2**30
"""Bytes that the processes which load training frames may keep them in, all together."""


class Run:
    """One training run in its folder.

    Everything that can be known to be wrong before training is refused by the constructor, which writes nothing.

    Args:
        config: resolved, plain configuration (``configs/train.yaml``).
    Raises:
        UserError: naming the key or file.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = Path(config["output_dir"])
        self._prepare()

    def _prepare(self) -> None:
        """Makes all that training needs, as far as the run has come."""
        config = self.config
        self._read = resume.identity(self.folder)
        compute, schedule, seed = build.make_device(config), build.make_schedule(config), build.make_seed(config)
        optimization, augmentation = build.make_optimization(config), build.make_augmentation(config)
        self.classes = build.make_classes(config)
        tasks = build.make_tasks(config, self.classes)
        weighting = build.make_weighting(config, tasks)
        check_weighting(weighting, schedule, compute)
        check_compiler(schedule, compute)
        resumed = resume.find(self.folder, config, schedule.resume)
        if not resumed:
            check_frozen(optimization, config["model"])
        frames = build.make_frames(config, "train")
        self.val_frames = build.make_frames(config, config["data"]["val_split"])
        if resumed:
            resume.check(resumed, config, frames, weighting)
        self.tasks = build.tasks_with_labels(tasks, frames)
        build.tasks_with_labels(self.tasks, self.val_frames)
        for split in (frames, self.val_frames):
            split.check_headers()
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = True  # all steps have one size of picture
        weighting = build.make_weighting(config, self.tasks)
        if len(self.tasks) == 1 and weighting.log_variances():
            log.info("one task: learning its uncertainty only rescales the step")
        # What is resumed needs no pretrained weights, nor the network connection that they may need.
        model = {**config["model"], "pretrained": None} if resumed else config["model"]
        network = build.make_model({**config, "model": model}, self.tasks)
        check_gradients(network, compute)
        objective = Objective(network.to(memory_format=compute.memory_format), self.tasks, weighting)
        memory = _MEMORY // max(1, schedule.num_workers)
        encoded = EncodedFrames(frames, self.tasks, augmentation, memory=memory)
        self.trainer = Trainer(objective.to(compute.device), encoded, optimization, schedule, compute, seed)
        self.best_score = float("-inf")
        self._figures: dict[str, float] = {}  # of the last validation of this process
        self._seconds = 0.0  # that processes before this one took
        self._last_is_whole = not resumed or resumed.source != self.folder / PREVIOUS
        if resumed:
            checkpoint.load_network(network, resumed.state, resumed.source)
            self.trainer.restore(resumed.state, resumed.source)
            if resumed.own:
                self.best_score, self._seconds = resumed.state["score"], resumed.state.get("seconds", 0.0)
            log.info("going on from %s, step %d", resumed.source, self.trainer.step)
        if schedule.compile:
            network.compile()
        self._fingerprint = frames.fingerprint
        self._evaluation = Evaluation(self.val_frames, self.tasks, config)
        self._predict = network_predictor(network, compute)

    def train(self) -> dict[str, float]:
        """Trains to the last step, evaluates, and writes ``metrics.json`` and ``panels``.

        Returns:
            The final figures, ``<task>/<figure>``, and those of the position prior behind ``position_prior/``.
        Raises:
            Interrupted: stopped by a signal; the next `Run` of this configuration goes on.
        """
        if not self._is_finished():
            with exclusive(self.folder, "training"):
                if self._read != resume.identity(self.folder):  # another process has trained here meanwhile
                    self._prepare()
                if not self._is_finished():
                    return self._train()
        log.info("%s: finished already", self.folder)
        return read_figures(self.folder / METRICS)

    def _is_finished(self) -> bool:
        return self.trainer.step == self.trainer.schedule.max_steps and (self.folder / METRICS).exists()

    def _train(self) -> dict[str, float]:
        trainer = self.trainer
        for folder in (self.folder, self.folder / LAST.parent, self.folder / _PANELS):
            remove_leftovers(folder)
        if trainer.compute.device.type == "cpu":
            keep_freed_memory()
        write_text(self.folder / CONFIG, yaml.safe_dump(self.config, sort_keys=False))
        self._log_start()
        self._tracker = Tracker(self.folder, trainer.step, trainer.validated)
        try:
            if trainer.step and trainer.validated == trainer.step:
                self._log_panels()
            self._clock = time.perf_counter(), trainer.step
            trainer.run(self._on_log, self._on_val, lambda: self._save(LAST))
            figures = self._finish()
        except BaseException:
            with suppress(UserError):  # of the same full disk, say: the first error is the one to show
                self._tracker.close()
            raise
        self._tracker.close()
        return figures

    def _log_start(self) -> None:
        compute, schedule = self.trainer.compute, self.trainer.schedule
        size = sum(parameter.numel() for parameter in self.trainer.objective.network.parameters())
        log.info(
            "%s: %s, %.1f M parameters, tasks %s, %d + %d frames of %d x %d px, %d steps of %d, %s",
            self.folder, self.config["model"]["encoder"], size / 1e6, "+".join(self.tasks), len(self.trainer.frames),
            len(self.val_frames), *self.val_frames.image_size, schedule.max_steps, schedule.batch_size,
            compute,
        )  # fmt: skip

    def _on_log(self, step: int, values: dict[str, float]) -> None:
        self._tracker.scalars(step, values)
        start, first = self._clock
        left = (time.perf_counter() - start) / (step - first) * (self.trainer.schedule.max_steps - step)
        losses = "  ".join(
            f"{name} {_number(values.get(f'loss/{name}'))} x {values[f'weight/{name}']:.3g}" for name in self.tasks
        )
        log.info(
            "step %*d/%d  total %.3f = %s  lr %.2g  %.1f images/s  %s left",
            len(str(self.trainer.schedule.max_steps)), step, self.trainer.schedule.max_steps, values["loss/total"],
            losses, values["lr"], values["images_per_second"], duration(left),
        )  # fmt: skip

    def _on_val(self, waiting: Waiting) -> None:
        step = self.trainer.step
        figures = self._figures = self._evaluate(waiting)
        self._tracker.scalars(step, {VALIDATION + key: value for key, value in figures.items()})
        self._log_panels()
        log.info("step %d validation: %s", step, brief(figures, figure_groups(self.tasks)))
        if (now := score(figures, self.tasks)) > self.best_score or not (self.folder / BEST).exists():
            self.best_score = now
            self._save(BEST)

    def _log_panels(self) -> None:
        for name, picture in self._panels(2, tall=True):
            self._tracker.image(self.trainer.step, f"val_panels/{name}", picture)

    def _evaluate(self, waiting: Waiting = nullcontext) -> dict[str, float]:
        # What scenes say is wanted of the trained network only: it costs as much as the predictions themselves.
        done = self.trainer.step == self.trainer.schedule.max_steps
        figures = self._evaluation.all_figures if done else self._evaluation.pixel_figures
        return figures(self._predict, waiting)

    def _save(self, path: Path) -> None:
        try:
            self._tracker.flush()
        finally:  # steps are worth more than their events
            self._save_state(path)

    def _save_state(self, path: Path) -> None:
        own: dict[str, Any] = {
            "config": dict(self.config),
            "classes": self.classes.content(),
            "tasks": list(self.tasks),
        }
        own |= {"score": self.best_score, "seconds": self._elapsed(), "frames": self._fingerprint}
        # What is damaged takes no other's place.
        previous = self.folder / PREVIOUS if path == LAST and self._last_is_whole else None
        checkpoint.save(self.folder / path, {**self.trainer.state(), **own}, previous)
        self._last_is_whole |= path == LAST

    def _elapsed(self) -> float:
        """Seconds of training and evaluation, of all the processes that the run took."""
        return self._seconds + time.perf_counter() - self._clock[0]

    def _finish(self) -> dict[str, float]:
        figures = (self._figures or self._evaluate()) | self._evaluation.position_prior()
        for name, picture in self._panels(self.trainer.schedule.num_panels):
            write_png(self.folder / _PANELS / f"{name}.png", picture)
        self._tracker.hyperparameters(self.config, self._columns())
        self._tracker.text(self.trainer.step, "results", results_text(figures, figure_groups(self.tasks)))
        self._tracker.scalars(self.trainer.step, {SECONDS: self._elapsed()})
        write_json(self.folder / METRICS, figures)
        return figures

    def _columns(self) -> list[str]:
        """The first figure of each group, also of tasks that are off: TensorBoard takes all runs' columns from one."""
        every: dict[str, Task] = {}
        for name in self.config["task"]:
            with suppress(UserError):  # a task that is off may lack what it needs
                every |= build.make_tasks({**self.config, "tasks": [name]}, self.classes)
        return [f"{VALIDATION}{name}/{listed[0].key}" for name, listed in figure_groups(every).items()]

    def _panels(self, number: int, tall: bool = False) -> list[tuple[str, Any]]:
        """Panels of ``number`` evenly spaced validation frames, by name."""
        spaced = dict.fromkeys(round(i * (len(self.val_frames) - 1) / max(number - 1, 1)) for i in range(number))
        frames = EncodedFrames(self.val_frames, self.tasks)
        keys = [[FrameKey(frame)] for frame in spaced]
        panels = []
        for batch in Loader(frames, keys, 0, pin=False):
            batch = batch.to(self.trainer.compute.device)
            panels.append((batch.names[0], panel(batch, 0, self._predict(batch.images), self.tasks, tall)))
        return panels


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
