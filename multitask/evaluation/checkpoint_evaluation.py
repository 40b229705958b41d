"""A checkpoint, or a network in training, to its figures: what ``scripts/evaluate.py`` calls."""

import copy
import logging
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multitask.config import factories as build
from multitask.config.factories import Config
from multitask.config.trained import load_trained
from multitask.data.loader import Batch, EncodedFrames, Loader, closed_after, in_order
from multitask.data.split import Split
from multitask.engine.inference import Predict, network_predictor
from multitask.engine.interruption import Waiting
from multitask.errors import UserError, shown
from multitask.evaluation.figures import evaluate
from multitask.evaluation.position_prior import fit_position_prior
from multitask.evaluation.result_files import ResultWriter, check_results_dir, write_results
from multitask.evaluation.scenes import SceneScorer
from multitask.files import write_json
from multitask.tasks.base import Task
from multitask.tasks.semantic import Semantic

log = logging.getLogger(__name__)

_OWN_KEYS = ("checkpoint", "split", "results_dir", "output_dir")
"""Keys of ``configs/evaluate.yaml`` that are no run's."""

_MOST_WORKERS = 16
"""That a checkpoint asks for: one from elsewhere may name any number."""


class Evaluation:
    """Takes the figures of predictions over one split.

    Args:
        frames: the split.
        tasks: those that the split has labels for.
        config: how frames are loaded, and votes grouped.
    """

    def __init__(self, frames: Split, tasks: Mapping[str, Task], config: Config) -> None:
        self.frames = frames
        self.tasks = tasks
        self.config = config
        self.compute = build.make_device(config)
        self._grouping = build.make_grouping(config)
        self._frames_at_once = max(1, build.pixels_at_once(config) // math.prod(frames.image_size))
        self._num_workers = build.make_schedule(config).num_workers

    def batches(self, keep_samples: bool = False) -> Loader:
        """Whole frames, as many at a time as make no more pixels than a micro-batch of training does."""
        encoded = EncodedFrames(self.frames, self.tasks, keep_samples=keep_samples)
        keys = in_order(len(self.frames), self._frames_at_once)
        return Loader(encoded, keys, self._num_workers, pin=self.compute.device.type == "cuda")

    def pixel_figures(self, predict: Predict, waiting: Waiting = nullcontext) -> dict[str, float]:
        """The tasks' own figures, ``<task>/<figure>``; for ``waiting`` see `evaluate`."""
        return evaluate(predict, self.batches(), self.tasks, self.compute.device, waiting=waiting)

    def all_figures(
        self, predict: Predict, waiting: Waiting = nullcontext, writer: ResultWriter | None = None
    ) -> dict[str, float]:
        """The same and those of scenes, which `writer` gets."""
        scorer = SceneScorer(self.tasks, self.frames.classes, self._grouping, writer)
        predicting, after = _Clock(self.compute.device), _Clock(self.compute.device)

        def timed(images: Tensor) -> dict[str, Tensor]:
            with predicting:
                predictions = predict(images)
            after.start()
            return predictions

        def batches() -> Iterator[Batch]:
            with closed_after(self.batches(keep_samples=True)) as loaded:
                for batch in loaded:
                    yield batch
                    after.stop()

        figures = evaluate(timed, batches(), self.tasks, self.compute.device, scorer.update, waiting)
        with after:
            figures |= scorer.compute()
        log.info(
            "%d frames: %.1f s for predictions, %.1f s for what is made of them",
            len(self.frames), predicting.seconds, after.seconds,
        )  # fmt: skip
        return figures

    def position_prior(self) -> dict[str, float]:
        """Figures of the predictor that knows only where a pixel is, behind ``position_prior/``.

        It is made of the training split; without one there are none, which a line says.
        """
        try:
            train = build.make_frames(self.config, "train")
            log.info("position prior: reading %d training frames", len(train))
            tasks = {name: task for name, task in self.tasks.items() if train.has(*task.layers)}
            fitted = fit_position_prior(Evaluation(train, tasks, self.config).batches(), tasks, self.compute.device)
        except UserError as error:
            log.warning("no position prior: %s", error)
            return {}
        figures = Evaluation(self.frames, tasks, self.config).all_figures(fitted)
        return {f"position_prior/{key}": value for key, value in figures.items()}


class _Clock:
    """Adds up the seconds between `start` and `stop`, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = 0.0
        self._device = device

    def start(self) -> None:
        self._synchronize()
        self._start = time.perf_counter()

    def stop(self) -> None:
        self._synchronize()
        self.seconds += time.perf_counter() - self._start

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def evaluate_checkpoint(config: Config, overrides: Sequence[str]) -> tuple[dict[str, float], dict[str, Task], Path]:
    """Evaluates a checkpoint as its own configuration says, but for what the command line gives.

    Args:
        config: resolved configuration of ``configs/evaluate.yaml``, in which the overrides are applied.
        overrides: as given on the command line, ``key=value``.
    Returns:
        Figures (with the position prior's), tasks, and the file that the figures were written to.
    Raises:
        UserError: naming the key or file.
    """
    if not config["checkpoint"]:
        raise UserError("checkpoint: needed the path of a checkpoint, e.g. runs/quickstart/seed0/checkpoints/last.pt")
    source, results_dir = Path(config["checkpoint"]), config["results_dir"]
    if results_dir:
        check_results_dir(results_dir)
    trained = load_trained(source, lambda saved: merge(_with_few_workers(saved), config, overrides))
    merged, split = trained.config, config["split"]
    frames = build.make_frames(merged, split)
    if difference := trained.classes.difference(frames.classes):
        raise UserError(f"checkpoint={source}: was trained on other classes than {frames.where} has: {difference}")
    # The class ids of labels are those of their own table, which may have other classes that are ignored.
    known = build.make_tasks({**merged, "tasks": list(trained.tasks)}, frames.classes)
    frames.check_headers()
    folder = _folder(config["output_dir"], source, merged["data"]["name"], split)
    for name in merged["tasks"]:
        if name not in trained.tasks and name in merged["task"]:
            log.warning("task %r is off: checkpoint=%s was trained without it", name, source)
    asked = {name: task for name, task in known.items() if name in merged["tasks"]}
    # Results are also written for the server, which alone has the labels.
    tasks = build.tasks_with_labels(asked, frames, any_needed=not results_dir)
    if results_dir and Semantic.name not in trained.tasks:  # results of instances have classes, too
        raise UserError(f"results_dir={results_dir}: needed a network of classes, found {list(trained.tasks)}")
    evaluation = Evaluation(frames, tasks, merged)
    compute = evaluation.compute
    trained.network.to(memory_format=compute.memory_format).to(compute.device)
    with write_results(results_dir, frames.classes, frames.source_size) if results_dir else nullcontext() as writer:
        figures = evaluation.all_figures(network_predictor(trained.network, compute), writer=writer)
        write_json(folder / "metrics.json", figures)  # before result files appear, over which no second call writes
    if results_dir:
        log.info("result files written to %s", results_dir)
    if nothing := [name for name in tasks if not any(key.startswith(f"{name}/") for key in figures)]:
        log.warning(
            "%s: split %r has no labelled pixel of %s: their figures are left out",
            frames.where,
            split,
            ", ".join(nothing),
        )
    if tasks and (prior := evaluation.position_prior()):
        figures |= prior
        write_json(folder / "metrics.json", figures)
    return figures, tasks, folder / "metrics.json"


def _folder(given: str | None, checkpoint: Path, data: str, split: str) -> Path:
    """Where the figures go: as asked for, or below the checkpoint's run, or beside a checkpoint that lies in none.

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
    """A name as a part of a file's name: a checkpoint from elsewhere may name any data set, and no folder."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:64] or "data"


def _check_writable(folder: Path) -> None:
    """Refuses a folder that cannot be written to, before time is spent on what is to be written there."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"output_dir={folder}: needed a folder, found that {place} is a file")
    if not os.access(place, os.W_OK):
        raise UserError(f"output_dir={folder}: needed a folder that can be written to, found that {place} cannot")


def _with_few_workers(saved: Config) -> Config:
    trainer = saved["trainer"]
    number = trainer["num_workers"]
    few = min(number, _MOST_WORKERS) if isinstance(number, int) else number
    return {**saved, "trainer": {**trainer, "num_workers": few}}


def merge(saved: Config, given: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """A saved configuration with the values of ``given`` at the keys that ``overrides`` name.

    Raises:
        UserError: for an override that is not ``key=value``.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(saved))
    for override in overrides:
        key, equals, _ = override.lstrip("+").partition("=")
        if not equals or key.startswith("~") or key == "experiment":
            raise UserError(f"{override}: needed key=value or group=choice, of the checkpoint's configuration")
        if key in _OWN_KEYS:
            continue
        *parents, last = key.split(".")
        source, target = given, merged
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise UserError(
                    f"{override}: needed a group {parent} in the checkpoint's configuration, found {shown(target)}"
                )
        target[last] = source[last]
    return merged
