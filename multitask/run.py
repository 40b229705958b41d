"""A training run from its configuration to its figures: what ``scripts/train.py`` calls."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from multitask import build
from multitask.build import Config
from multitask.data.layout import write_png
from multitask.data.loader import EncodedFrames, FrameKey, Loader
from multitask.data.split import Split
from multitask.engine import checkpoint
from multitask.engine.exclusive import LOCK, exclusive
from multitask.engine.inference import network_predictor, score
from multitask.engine.interruption import Stopped
from multitask.engine.memory import keep_freed_memory
from multitask.engine.objective import Objective
from multitask.engine.settings import check_frozen, check_weighting
from multitask.engine.tracking import VALIDATION, Tracker, flatten, read_figures
from multitask.engine.trainer import Trainer
from multitask.errors import UserError
from multitask.evaluation import Evaluation
from multitask.files import is_leftover, write_json, write_text
from multitask.report import brief, duration, panel, results_text
from multitask.scene import figure_groups
from multitask.tasks.base import Task

log = logging.getLogger(__name__)

LAST, BEST, METRICS = Path("checkpoints/last.pt"), Path("checkpoints/best.pt"), Path("metrics.json")

SECONDS = "run/seconds"
"""In the history of a finished run: how long its training and evaluation took, in all its processes."""

_FREE_KEYS = (
    "output_dir",
    "data.root",
    "data.roots",
    "trainer.device",
    "trainer.precision",
    "trainer.num_workers",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.num_panels",
    "trainer.resume",
)
# A checkpoint knows the precision that was meant.

_FREE_ELSEWHERE = ("name", "trainer.max_steps", "trainer.val_every")
"""What may also differ where a run goes on in another folder."""

SINCE = {
    "data.held_out": 0,
    "optimizer.encoder_lr_factor": 1.0,
    "optimizer.warmup_steps": 0,
    "model.freeze_batch_norm": False,
}
"""Keys that runs of older versions lack, and what those did."""


def is_free(key: str) -> bool:
    """Whether a key (dotted) may be given otherwise when a run is started again: nothing that training depends on."""
    return key in _FREE_KEYS or key.startswith("instances.")


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
        compute, schedule, seed = build.make_device(config), build.make_schedule(config), build.make_seed(config)
        optimization, augmentation = build.make_optimization(config), build.make_augmentation(config)
        tasks = build.make_tasks(config)
        check_weighting(build.make_weighting(config, tasks), schedule, compute)
        resume = self._checkpoint_to_resume(schedule.resume)
        state = checkpoint.load(resume) if resume else None
        if not state:
            check_frozen(optimization, config["model"])
        frames = build.make_frames(config, "train")
        self.val_frames = build.make_frames(config, config["data"]["val_split"])
        if resume and state:
            self._check_resumed(state, resume, frames)
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
        model = {**config["model"], "pretrained": None} if state else config["model"]
        network = build.make_model({**config, "model": model}, self.tasks)
        objective = Objective(network.to(memory_format=compute.memory_format), self.tasks, weighting)
        encoded = EncodedFrames(frames, self.tasks, augmentation)
        self.trainer = Trainer(objective.to(compute.device), encoded, optimization, schedule, compute, seed)
        self.best_score = float("-inf")
        self._figures: dict[str, float] = {}  # of the last validation of this process
        self._seconds = 0.0  # that processes before this one took
        if resume and state:
            checkpoint.load_network(network, state, resume)
            self.trainer.restore(state, resume)
            if resume == self.folder / LAST:
                self.best_score, self._seconds = state["score"], state.get("seconds", 0.0)
            log.info("going on from %s, step %d", resume, self.trainer.step)
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
        trainer, done = self.trainer, self.folder / METRICS
        if trainer.step == trainer.schedule.max_steps and done.exists():
            log.info("%s: finished already", self.folder)
            return read_figures(done)
        with exclusive(self.folder, "training"):
            return self._train()

    def _train(self) -> dict[str, float]:
        trainer = self.trainer
        if trainer.compute.device.type == "cpu":
            keep_freed_memory()
        write_text(self.folder / "config.yaml", yaml.safe_dump(self.config, sort_keys=False))
        self._log_start()
        self._tracker = Tracker(self.folder, trainer.step, trainer.validated)
        try:
            self._clock = time.perf_counter(), trainer.step
            trainer.run(self._on_log, self._on_val, lambda: self._save(LAST))
            return self._finish()
        finally:
            self._tracker.close()

    def _checkpoint_to_resume(self, resume: str | None) -> Path | None:
        previous, last = self.folder / "config.yaml", self.folder / LAST
        if previous.exists():
            # One that ended before it had anything to keep may start again otherwise.
            if last.exists() or (self.folder / METRICS).exists():
                self._check_same_config(previous)
        # A run that was killed while it wrote its first files is nobody else's.
        elif self.folder.exists() and any(not _is_a_start(path) for path in self.folder.iterdir()):
            raise UserError(
                f"output_dir={self.folder}: needed a new or empty folder or a run's, found other files in it"
            )
        if resume is None and last.exists():
            raise UserError(f"trainer.resume=null: output_dir={self.folder} holds a run; delete it or choose another")
        if last.exists():
            return last
        if resume in ("auto", None):
            return None
        if not Path(str(resume)).is_file():
            raise UserError(f"trainer.resume={resume}: needed auto, null or an existing checkpoint")
        return Path(str(resume))

    def _check_same_config(self, path: Path) -> None:
        try:
            previous = flatten(yaml.safe_load(path.read_text()))
        except (yaml.YAMLError, AttributeError) as error:
            raise UserError(f"{path}: not the configuration of a run ({error})") from error
        if difference := self._difference(previous):
            raise UserError(
                f"output_dir={self.folder}: holds a run of another configuration: {difference}; choose another "
                "output_dir"
            )

    def _difference(self, previous: Mapping[str, Any], *more_free: str) -> str | None:
        """The first key of a flat configuration that is given otherwise now, in words; None if there is none."""
        previous, now = SINCE | dict(previous), flatten(self.config)
        for key in [*now, *(key for key in previous if key not in now)]:
            if not is_free(key) and key not in more_free and previous.get(key) != now.get(key):
                return f"{key} was {previous.get(key)!r}, is {now.get(key)!r}"
        return None

    def _check_resumed(self, state: Mapping[str, Any], source: Path, frames: Split) -> None:
        """Checks that a checkpoint's run, in this folder or another one, is the one to go on with."""
        if difference := self._difference(flatten(state["config"]), *_FREE_ELSEWHERE):
            raise UserError(
                f"trainer.resume={source}: of another configuration: {difference}; model.pretrained={source} starts a "
                "new run from its weights"
            )
        if (found := state.get("frames", frames.fingerprint)) != frames.fingerprint:
            raise UserError(f"checkpoint={source}: was trained on {found}; {frames.where} has {frames.fingerprint}")

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

    def _on_val(self) -> None:
        step = self.trainer.step
        figures = self._figures = self._evaluate()
        self._tracker.scalars(step, {VALIDATION + key: value for key, value in figures.items()})
        for name, picture in self._panels(2, tall=True):
            self._tracker.image(step, f"val_panels/{name}", picture)
        log.info("step %d validation: %s", step, brief(figures, figure_groups(self.tasks)))
        if (now := score(figures, self.tasks)) > self.best_score or not (self.folder / BEST).exists():
            self.best_score = now
            self._save(BEST)

    def _evaluate(self) -> dict[str, float]:
        def end_early() -> None:
            if self.trainer.stop:
                raise Stopped

        # What scenes say is wanted of the trained network only: it costs as much as the predictions themselves.
        done = self.trainer.step == self.trainer.schedule.max_steps
        figures = self._evaluation.all_figures if done else self._evaluation.pixel_figures
        return figures(self._predict, end_early)

    def _save(self, path: Path) -> None:
        self._tracker.flush()
        own = {"score": self.best_score, "config": dict(self.config), "tasks": list(self.tasks)}
        own |= {"seconds": self._elapsed(), "frames": self._fingerprint}
        checkpoint.save(self.folder / path, {**self.trainer.state(), **own})

    def _elapsed(self) -> float:
        """Seconds of training and evaluation, of all the processes that the run took."""
        return self._seconds + time.perf_counter() - self._clock[0]

    def _finish(self) -> dict[str, float]:
        figures = (self._figures or self._evaluate()) | self._evaluation.position_prior()
        for name, picture in self._panels(self.trainer.schedule.num_panels):
            write_png(self.folder / "panels" / f"{name}.png", picture)
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
                every |= build.make_tasks({**self.config, "tasks": [name]})
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


def _is_a_start(path: Path) -> bool:
    """Whether a file is what a run may leave that was killed at its very start."""
    return path.name == LOCK or is_leftover(path)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
