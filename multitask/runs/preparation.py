"""Preparation of a training run from its configuration, including the checkpoint that it resumes from."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from multitask.config.factories import (
    Config,
    TrainingSettings,
    make_model,
    make_splits,
    make_tasks,
    make_training_settings,
    make_weighting,
)
from multitask.data.loader import EncodedFrames
from multitask.data.split import Split
from multitask.engine import checkpoint
from multitask.engine.arithmetic import check_gradients
from multitask.engine.objective import Objective
from multitask.engine.optimization import check_frozen
from multitask.engine.schedule import check_compiler, check_weighting
from multitask.engine.trainer import Trainer
from multitask.runs import resume
from multitask.runs.resume import Resumed
from multitask.tasks.base import Task
from multitask.tasks.labels import tasks_with_labels

log = logging.getLogger(__name__)

_MEMORY = 2**30
"""Memory in bytes in which all data loader workers together may cache training frames."""


@dataclass(frozen=True)
class Prepared:
    """A training run, ready to start or to resume.

    Attributes:
        settings: settings of training and evaluation.
        tasks: the tasks that both splits have labels for.
        frames: the training split.
        val_frames: the validation split.
        trainer: the trainer, restored from a checkpoint if there is one.
        resumed_from: path of the checkpoint that the run resumes from; None for a new run.
        best_score: score of the best checkpoint so far.
        seconds: duration of the run in earlier processes.
    """

    settings: TrainingSettings
    tasks: dict[str, Task]
    frames: Split
    val_frames: Split
    trainer: Trainer
    resumed_from: Path | None
    best_score: float
    seconds: float


def prepare(config: Config, folder: Path) -> Prepared:
    """Prepares a training run; writes nothing.

    Args:
        config: configuration of the run.
        folder: folder of the run, which need not exist.
    Raises:
        UserError: naming the key or file, for every fault that can be detected before training.
    """
    settings = make_training_settings(config)
    resumed = resume.find(folder, config, settings.schedule.resume)
    if not resumed:
        check_frozen(settings.optimization, config["model"])
    check_compiler(settings.schedule, settings.compute)
    frames, val_frames = make_splits(config, "train", config["data"]["val_split"])
    settings.augmentation.check_crop(frames.image_size)
    tasks = make_tasks(config, frames.classes)
    # Checked for all tasks, also those that are off for want of labels, which may arrive before the run is resumed.
    check_weighting(make_weighting(config, tasks), settings.schedule, settings.compute)
    tasks = tasks_with_labels(tasks, frames)
    tasks_with_labels(tasks, val_frames)
    for split in (frames, val_frames):
        split.check_headers()
    memory = _MEMORY // max(1, settings.schedule.num_workers)
    encoded = EncodedFrames(frames, tasks, settings.augmentation, memory=memory)
    if resumed:
        resume.check(resumed, config, frames)
    trainer = _make_trainer(config, settings, tasks, encoded, resumed)
    best_score, seconds = -math.inf, 0.0
    if resumed and resumed.from_own_folder:
        best_score, seconds = resumed.state["score"], resumed.state.get("seconds", 0.0)
    source = resumed.source if resumed else None
    return Prepared(settings, tasks, frames, val_frames, trainer, source, best_score, seconds)


def _make_trainer(
    config: Config, settings: TrainingSettings, tasks: dict[str, Task], frames: EncodedFrames, resumed: Resumed | None
) -> Trainer:
    compute, schedule = settings.compute, settings.schedule
    torch.manual_seed(settings.seed)
    torch.backends.cudnn.benchmark = True  # all steps have images of one size
    weighting = make_weighting(config, tasks)
    if len(tasks) == 1 and weighting.log_variances():
        log.info("one task: learning its uncertainty only rescales the step")
    # A resumed run needs no pretrained weights, nor the internet connection that they may need.
    model = {**config["model"], "pretrained": None} if resumed else config["model"]
    network = make_model({**config, "model": model}, tasks)
    check_gradients(network, compute)
    objective = Objective(network.to(memory_format=compute.memory_format), tasks, weighting)
    trainer = Trainer(objective.to(compute.device), frames, settings.optimization, schedule, compute, settings.seed)
    if resumed:
        checkpoint.load_network(network, resumed.state, resumed.source)
        trainer.restore(resumed.state, resumed.source)
        log.info("going on from %s, step %d", resumed.source, trainer.step)
    if schedule.compile:
        network.compile()
    return trainer
