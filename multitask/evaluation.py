"""A checkpoint, or a network in training, to its figures: what ``scripts/evaluate.py`` calls."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from multitask import build
from multitask.build import Config
from multitask.data.cityscapes import Cityscapes
from multitask.data.loader import EncodedFrames, in_order, make_loader
from multitask.engine import checkpoint
from multitask.engine.inference import evaluate, fit_position_prior, network_predictor
from multitask.engine.tracking import write_json
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


def evaluate_network(
    network: nn.Module, frames: Cityscapes, tasks: Mapping[str, Task], config: Config
) -> dict[str, float]:
    """Figures of ``network`` over a split."""
    compute = build.make_device(config)
    batches = _batches(frames, tasks, config)
    return evaluate(network_predictor(network, compute), batches, tasks, compute.device)


def position_prior(config: Config, tasks: Mapping[str, Task], frames: Cityscapes) -> dict[str, float]:
    """Figures over a split of the predictor that knows only where a pixel is, behind ``position_prior/``.

    It is made of the training split; without one there are none, which a line says.
    """
    try:
        train = build.make_frames(config, "train")
    except ValueError as error:
        log.warning("no position prior: %s", error)
        return {}
    device = build.make_device(config).device
    tasks = {name: task for name, task in tasks.items() if all(train.has(layer) for layer in task.layers)}
    predict = fit_position_prior(_batches(train, tasks, config), tasks, device)
    figures = evaluate(predict, _batches(frames, tasks, config), tasks, device)
    return {f"position_prior/{key}": value for key, value in figures.items()}


def _batches(frames: Cityscapes, tasks: Mapping[str, Task], config: Config) -> Any:
    """Whole frames, as many at a time as make no more pixels than a micro-batch of training does."""
    schedule, compute = build.make_schedule(config), build.make_device(config)
    height, width = build.make_augmentation(config).crop or frames.image_size
    pixels = schedule.batch_size // schedule.accumulate * height * width
    keys = in_order(len(frames), max(1, pixels // math.prod(frames.image_size)))
    return make_loader(EncodedFrames(frames, tasks), keys, schedule.num_workers, pin=compute.device.type == "cuda")


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
    default = source.parent.parent / "evaluation" / f"{merged['data']['name']}-{split}"
    folder = Path(config["output_dir"] or default)
    if (folder / "config.yaml").exists():
        raise ValueError(f"output_dir={folder}: holds a run, whose metrics.json would be lost; choose another folder")
    trained = {
        name: task
        for name, task in build.make_tasks(merged).items()
        if f"decoders.{name}.output.weight" in state["network"]
    }
    network = build.make_model({**merged, "model": {**merged["model"], "pretrained": None}}, trained)
    checkpoint.load_network(network, state, source)
    tasks = build.tasks_with_labels(trained, frames)
    compute = build.make_device(merged)
    network.to(memory_format=compute.memory_format).to(compute.device)
    figures = evaluate_network(network, frames, tasks, merged) | position_prior(merged, tasks, frames)
    write_json(folder / "metrics.json", figures)
    return figures, tasks, folder / "metrics.json"


def merge(saved: Config, given: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """A saved configuration with the values of ``given`` at the keys that ``overrides`` name.

    Raises:
        ValueError: for an override that is not ``key=value`` or whose key is none of the configuration's.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(saved))
    for override in overrides:
        key, equals, _ = override.lstrip("+").partition("=")
        if not equals or key.startswith("~") or key == "experiment":
            raise ValueError(f"{override}: needed key=value or group=choice, of the checkpoint's configuration")
        *parents, last = key.split(".")
        source, target = given, merged
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    return merged
