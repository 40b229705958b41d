"""A checkpoint, or a network in training, to its figures: what ``scripts/evaluate.py`` calls."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from multitask import build
from multitask.build import Config
from multitask.data.cityscapes import Cityscapes
from multitask.data.loader import Batch, EncodedFrames, Loader, in_order
from multitask.engine import checkpoint
from multitask.engine.inference import evaluate, fit_position_prior, network_predictor
from multitask.engine.tracking import write_json
from multitask.tasks.base import Task

log = logging.getLogger(__name__)

_OWN_KEYS = ("checkpoint", "split", "output_dir")
"""Keys of ``configs/evaluate.yaml`` that are no run's."""


def evaluate_network(
    network: nn.Module,
    frames: Cityscapes,
    tasks: Mapping[str, Task],
    config: Config,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Figures of ``network`` over a split; ``on_batch`` is called before each batch and may raise."""
    compute = build.make_device(config)

    def batches() -> Iterator[Batch]:
        for batch in make_batches(frames, tasks, config):
            on_batch()
            yield batch

    return evaluate(network_predictor(network, compute), batches(), tasks, compute.device)


def position_prior(config: Config, tasks: Mapping[str, Task], frames: Cityscapes) -> dict[str, float]:
    """Figures over a split of the predictor that knows only where a pixel is, behind ``position_prior/``.

    It is made of the training split; without one there are none, which a line says.
    """
    try:
        train = build.make_frames(config, "train")
    except ValueError as error:
        log.warning("no position prior: %s", error)
        return {}
    log.info("position prior: reading %d training frames", len(train))
    device = build.make_device(config).device
    tasks = {name: task for name, task in tasks.items() if all(train.has(layer) for layer in task.layers)}
    predict = fit_position_prior(make_batches(train, tasks, config), tasks, device)
    figures = evaluate(predict, make_batches(frames, tasks, config), tasks, device)
    return {f"position_prior/{key}": value for key, value in figures.items()}


def make_batches(frames: Cityscapes, tasks: Mapping[str, Task], config: Config) -> Loader:
    """Whole frames, as many at a time as make no more pixels than a micro-batch of training does."""
    schedule, compute = build.make_schedule(config), build.make_device(config)
    height, width = build.make_augmentation(config).crop or frames.image_size
    pixels = schedule.batch_size // schedule.accumulate * height * width
    keys = in_order(len(frames), max(1, pixels // math.prod(frames.image_size)))
    return Loader(EncodedFrames(frames, tasks), keys, schedule.num_workers, pin=compute.device.type == "cuda")


def evaluate_checkpoint(config: Config, overrides: Sequence[str]) -> tuple[dict[str, float], dict[str, Task], Path]:
    """Evaluates a checkpoint as its own configuration says, but for what the command line gives.

    Args:
        config: resolved configuration of ``configs/evaluate.yaml``, in which the overrides are applied.
        overrides: as given on the command line, ``key=value``.
    Returns:
        Figures (with the position prior's), tasks, and the file that the figures were written to.
    Raises:
        ValueError: naming the key or file.
    """
    if not config["checkpoint"]:
        raise ValueError("checkpoint: needed the path of a checkpoint, e.g. runs/quickstart/seed0/checkpoints/last.pt")
    source = Path(config["checkpoint"])
    state = checkpoint.load(source)
    merged = merge(state["config"], config, overrides)
    split = config["split"]
    frames = build.make_frames(merged, split)
    frames.check_headers()
    default = source.parent.parent / "evaluation" / f"{merged['data']['name']}-{split}-{source.stem}"
    folder = Path(config["output_dir"] or default)
    if (folder / "config.yaml").exists():
        raise ValueError(f"output_dir={folder}: holds a run, whose metrics.json would be lost; choose another folder")
    trained = build.make_tasks({**merged, "tasks": state["tasks"]})
    network = build.make_model({**merged, "model": {**merged["model"], "pretrained": None}}, trained)
    checkpoint.load_network(network, state, source)
    for name in merged["tasks"]:
        if name not in trained and name in merged["task"]:
            log.warning("task %r is off: checkpoint=%s was trained without it", name, source)
    asked = {name: task for name, task in trained.items() if name in merged["tasks"]}
    tasks = build.tasks_with_labels(asked, frames)
    compute = build.make_device(merged)
    network.to(memory_format=compute.memory_format).to(compute.device)
    figures = evaluate_network(network, frames, tasks, merged) | position_prior(merged, tasks, frames)
    write_json(folder / "metrics.json", figures)
    return figures, tasks, folder / "metrics.json"


def merge(saved: Config, given: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """A saved configuration with the values of ``given`` at the keys that ``overrides`` name.

    Raises:
        ValueError: for an override that is not ``key=value``.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(saved))
    for override in overrides:
        key, equals, _ = override.lstrip("+").partition("=")
        if not equals or key.startswith("~") or key == "experiment":
            raise ValueError(f"{override}: needed key=value or group=choice, of the checkpoint's configuration")
        if key in _OWN_KEYS:
            continue
        *parents, last = key.split(".")
        source, target = given, merged
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    return merged
