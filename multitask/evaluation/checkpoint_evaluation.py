"""Evaluation of a checkpoint; called by ``scripts/evaluate.py``."""

import logging
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from multitask.config.factories import Config, make_evaluation_settings, make_frames, make_tasks
from multitask.config.overrides import key_of
from multitask.config.trained import Trained, load_trained
from multitask.data.split import Split
from multitask.engine.inference import network_predictor
from multitask.errors import UserError
from multitask.evaluation.evaluator import Evaluator, position_prior_figures
from multitask.evaluation.result_files import check_results_dir, write_results
from multitask.files import write_json
from multitask.tasks.base import Task
from multitask.tasks.labels import tasks_with_labels
from multitask.tasks.semantic import Semantic

log = logging.getLogger(__name__)

_OWN_KEYS = ("checkpoint", "split", "results_dir", "output_dir")
"""Keys of ``configs/evaluate.yaml`` that do not belong to a run's configuration."""


def evaluate_checkpoint(config: Config, overrides: Sequence[str]) -> tuple[dict[str, float], dict[str, Task], Path]:
    """Evaluates a checkpoint with its own configuration, changed by overrides from the command line.

    Args:
        config: resolved configuration of ``configs/evaluate.yaml``, with the overrides applied.
        overrides: arguments of the command line, ``key=value``.
    Returns:
        Metrics (including the position prior's), tasks, and the file to which the metrics were written.
    Raises:
        UserError: naming the key or file.
    """
    if not config["checkpoint"]:
        raise UserError("checkpoint: needed the path of a checkpoint, e.g. runs/quickstart/seed0/checkpoints/last.pt")
    source, results_dir, split = Path(config["checkpoint"]), config["results_dir"], config["split"]
    if results_dir:
        check_results_dir(results_dir)
    trained = load_trained(source, config, [text for text in overrides if key_of(text) not in _OWN_KEYS])
    settings = make_evaluation_settings(trained.config)
    frames = make_frames(trained.config, split)
    tasks = _tasks(trained, frames, source, results_dir)
    frames.check_headers()
    folder = _folder(config["output_dir"], source, trained.config["data"]["name"], split)
    evaluator = Evaluator(frames, tasks, settings)
    trained.network.to(memory_format=settings.compute.memory_format).to(settings.compute.device)
    with write_results(results_dir, frames.classes, frames.source_size) if results_dir else nullcontext() as writer:
        figures = evaluator.all_figures(network_predictor(trained.network, settings.compute), writer=writer)
        write_json(folder / "metrics.json", figures)  # before the result files appear, which bar a second call
    if results_dir:
        log.info("result files written to %s", results_dir)
    if nothing := [name for name in tasks if not any(key.startswith(f"{name}/") for key in figures)]:
        which = ", ".join(nothing)
        log.warning("%s: split %r has no labelled pixel of %s: their figures are left out", frames.where, split, which)
    if tasks and (train := _training_frames(trained.config)):
        figures |= position_prior_figures(train, evaluator)
        write_json(folder / "metrics.json", figures)
    return figures, tasks, folder / "metrics.json"


def _training_frames(config: Config) -> Split | None:
    """Opens the training frames for the position prior; logs a warning and returns None if there are none."""
    try:
        return make_frames(config, "train")
    except UserError as error:
        log.warning("no position prior: %s", error)
        return None


def _tasks(trained: Trained, frames: Split, source: Path, results_dir: str | None) -> dict[str, Task]:
    """Returns the tasks to evaluate: those of the network that are requested and have labels in the split.

    Raises:
        UserError: if the labels have other classes or are missing, or the network lacks a task that result files need.
    """
    if difference := trained.classes.difference(frames.classes):
        raise UserError(f"checkpoint={source}: was trained on other classes than {frames.where} has: {difference}")
    if results_dir and Semantic.name not in trained.tasks:  # results of instances contain classes, too
        raise UserError(f"results_dir={results_dir}: needed a network of classes, found {list(trained.tasks)}")
    for name in trained.config["tasks"]:
        if name not in trained.tasks and name in trained.config["task"]:
            log.warning("task %r is off: checkpoint=%s was trained without it", name, source)
    # Tasks use the class table of the labels, which may have other ignored classes than the network's.
    known = make_tasks({**trained.config, "tasks": list(trained.tasks)}, frames.classes)
    asked = {name: task for name, task in known.items() if name in trained.config["tasks"]}
    # Result files are also written for frames whose labels only the benchmark's server has.
    return tasks_with_labels(asked, frames, any_needed=not results_dir)


def _folder(given: str | None, checkpoint: Path, data: str, split: str) -> Path:
    """Returns the folder for the metrics: the given one, else one in the checkpoint's run or beside the checkpoint.

    Raises:
        UserError: if the folder cannot be written to, or holds a run.
    """
    run = Path(os.path.abspath(checkpoint)).parent
    run = run.parent if run.name == "checkpoints" else run
    run = run if checkpoint.is_absolute() else Path(os.path.relpath(run))
    folder = Path(given or run / "evaluation" / f"{_file_name(data)}-{split}-{checkpoint.stem}")
    if (folder / "config.yaml").exists():
        raise UserError(f"output_dir={folder}: holds a run, whose metrics.json would be lost; choose another folder")
    _check_writable(folder)
    return folder


def _file_name(name: str) -> str:
    """Makes a name safe as part of a file name: the data set's name in a foreign checkpoint may be any text."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:64] or "data"


def _check_writable(folder: Path) -> None:
    """Refuses a folder that cannot be written to, before time is spent on the evaluation."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"output_dir={folder}: needed a folder, found that {place} is a file")
    if not os.access(place, os.W_OK):
        raise UserError(f"output_dir={folder}: needed a folder that can be written to, found that {place} cannot")
