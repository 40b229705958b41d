"""From a configuration (plain dicts, as resolved by Hydra or kept in a checkpoint) to the objects it describes."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multitask.config.signatures import call, fits, make
from multitask.data.classes import ClassTable
from multitask.data.folds import BY_SEED, Fold
from multitask.data.formats import check_keys, open_split
from multitask.data.parallel import num_cpus, num_loaders
from multitask.data.split import LABEL_KINDS, Split, check_size
from multitask.data.tables import read_table
from multitask.data.transforms import Augmentation
from multitask.engine.compute import Compute, make_compute
from multitask.engine.optimization import Optimization
from multitask.engine.schedule import Schedule
from multitask.engine.warm_start import find_run, start_from
from multitask.errors import UserError, shown
from multitask.instances import Grouping
from multitask.models.network import MultiTaskNetwork, make_network
from multitask.synthetic import check_manifest
from multitask.tasks.base import Task
from multitask.weighting import Weighting

log = logging.getLogger(__name__)

Config = Mapping[str, Any]

_DRAW = 2  # a random stream of the seed, beside those of the loader
_COMPUTE = ("device", "precision", "channels_last")
MOST_SEED = 2**64 - 1  # that torch takes
_GROUPS = ("data", "data.augmentation", "task", "model", "weighting", "optimizer", "trainer")

_MOST_PIXELS = 2**22
"""Of whole frames at once: more are no faster, and a checkpoint from elsewhere may name any number."""


def check_config(config: Config) -> None:
    """Refuses a configuration that is not a run's, before anything is made of it.

    Raises:
        UserError: naming the first key that is not what everything else takes for granted.
    """
    for key in _GROUPS:
        group(config, key)
    if not fits(config.get("tasks"), list[str]):
        raise UserError(f"tasks: needed a list of names, found {shown(config.get('tasks'))}")
    data = config["data"]
    if not isinstance(data.get("name"), str):
        raise UserError(f"data.name: needed a name, found {shown(data.get('name'))}")
    check_size("data.image_size", data.get("image_size"))
    pixels_at_once(config)
    make_grouping(config)


def group(config: Config, key: str) -> Config:
    """A group of a configuration, or a group within one, such as ``data.augmentation``."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise UserError(f"{key}: needed a group of keys, found {shown(found)}")
    return found


def make_classes(config: Config) -> ClassTable:
    """The class table of the labels, as ``data.classes`` names or gives it."""
    return read_table(group(config, "data").get("classes"))


def make_tasks(config: Config, classes: ClassTable) -> dict[str, Task]:
    """The tasks of ``config["tasks"]``, in that order."""
    names, known = config.get("tasks"), group(config, "task")
    if not fits(names, list[str]):
        raise UserError(f"tasks: needed a list such as {sorted(known)}, found {shown(names)}")
    if not names:
        raise UserError(f"tasks: needed at least one of {sorted(known)}, found none")
    if len(set(names)) < len(names):
        raise UserError(f"tasks: needed each task once, found {shown(names)}")
    for name in names:
        if name not in known:
            raise UserError(f"tasks: needed some of {sorted(known)}, found {shown(name)}")
    return {name: make(f"task.{name}", known[name], Task, classes) for name in names}


HELD_OUT = "held_out"
"""The split of the training frames that nothing is trained on, to choose by."""


def make_frames(config: Config, split: str) -> Split:
    """One split of the data set: one of its own or of a fold, of whose ``train`` a part may be drawn, or `HELD_OUT`.

    ``train`` is the split to train on, whatever the data set calls it.
    """
    data = group(config, "data")
    check_keys(data)
    fold = make_fold(config)
    if data.get("name") == "synthetic" and "root" in data:
        check_manifest(Path(data["root"]), data)
    if split not in ("train", HELD_OUT):
        return open_split(data, split, fold)
    if not isinstance(train := data.get("train_split", "train"), str):
        raise UserError(f"data.train_split: needed the name of a split, found {shown(train)}")
    frames = open_split(data, train, fold)
    held_out, draw = data.get("held_out", 0), data.get("draw")
    if not fits(held_out, int) or not 0 <= held_out < len(frames):
        raise UserError(f"data.held_out: needed 0 to {len(frames) - 1} frames, found {held_out!r}")
    rest = len(frames) - held_out
    if split == HELD_OUT:
        if not held_out:
            raise UserError(f"split {HELD_OUT!r}: needed data.held_out above zero, found {held_out}")
        return frames.only(range(rest, len(frames)))
    if draw is None:
        return frames.only(range(rest))
    if not fits(draw, int) or not 1 <= draw <= rest:
        raise UserError(f"data.draw: needed null or 1 to {rest} frames, found {draw!r}")
    drawn = np.random.default_rng((make_seed(config), _DRAW)).choice(rest, draw, replace=False)
    return frames.only(sorted(drawn.tolist()))


def make_fold(config: Config) -> Fold | None:
    """The block of frames that training leaves out, if the data set is divided into such."""
    data = group(config, "data")
    folds: Any = data.get("folds")
    number: Any = data.get("fold")
    if folds is None:
        if number is not None:
            raise UserError(f"data.folds: needed how many there are for data.fold={shown(number)}, found null")
        return None
    if not fits(folds, int) or folds < 2:
        raise UserError(f"data.folds: needed null or a whole number from 2, found {shown(folds)}")
    if number == BY_SEED:
        number = make_seed(config) % folds
    if not fits(number, int) or not 0 <= number < folds:
        raise UserError(f"data.fold: needed 0 to {folds - 1} or {BY_SEED}, found {shown(number)}")
    return Fold(number, folds)


def tasks_with_labels(tasks: Mapping[str, Task], frames: Split, *, any_needed: bool = True) -> dict[str, Task]:
    """The tasks whose labels the data set has; a line says which are off for the want of them.

    Another one says how many frames have which labels, where these may differ.

    Raises:
        UserError: if none is left and ``any_needed``.
    """
    if frames.partial:
        counts = ", ".join(f"{frames.count(kind)} with {kind}" for kind in LABEL_KINDS)
        log.info("%s: split %r has %d frames, %s", frames.where, frames.split, len(frames), counts)
    on = {}
    for name, task in tasks.items():
        if not frames.has(*task.layers):
            missing = [layer for layer in task.layers if not frames.has(layer)]
            what = " and ".join(missing) if missing else f"frames with both {' and '.join(task.layers)}"
            log.warning("task %r is off: %s has no %s for split %r", name, frames.where, what, frames.split)
            continue
        on[name] = task
        lacking: dict[str, list[str]] = {}
        for layer in task.layers:
            for where in frames.lacking(layer):
                lacking.setdefault(where, []).append(layer)
        for where, layers in lacking.items():
            log.warning("task %r without %s: no %s for split %r", name, where, " and ".join(layers), frames.split)
    if any_needed and not on:
        raise UserError(f"{frames.where}: split {frames.split!r} has no labels for any of tasks={list(tasks)}")
    return on


def make_augmentation(config: Config) -> Augmentation:
    """The augmentation of the training split."""
    values = dict(group(config, "data.augmentation"))
    if isinstance(values.get("scale"), list):
        values["scale"] = tuple(values["scale"])
    if values.get("crop") is not None:
        values["crop"] = check_size("data.augmentation.crop", values["crop"])
    augmentation = call("data.augmentation", Augmentation, values)
    if augmentation.crop:
        size = check_size("data.image_size", config["data"].get("image_size"))
        largest = [round(side * augmentation.scale[1]) for side in size]
        if any(crop > side for crop, side in zip(augmentation.crop, largest, strict=True)):
            raise UserError(
                f"data.augmentation.crop: needed at most {largest}, the largest scaled frame, found {values['crop']}"
            )
    return augmentation


def make_model(config: Config, tasks: Mapping[str, Task]) -> MultiTaskNetwork:
    """The network with one decoder for each task, which starts as ``model.pretrained`` says."""
    channels, model = {name: task.channels for name, task in tasks.items()}, group(config, "model")
    pretrained = model.get("pretrained")
    run = find_run(pretrained) if isinstance(pretrained, str) else None
    network = call("model", make_network, {**model, "pretrained": None} if run else model, channels)
    if run:
        start_from(network, tasks, run, f"model.pretrained={pretrained}")
    return network


def make_weighting(config: Config, tasks: Mapping[str, Task]) -> Weighting:
    """The weighting of the tasks' losses; what it says of tasks that are off for want of labels is left out."""
    off = set(config["tasks"]) - set(tasks)
    spec = {key: _without(value, off) for key, value in group(config, "weighting").items()}
    return make("weighting", spec, Weighting, {name: task.likelihood for name, task in tasks.items()})


def make_optimization(config: Config) -> Optimization:
    """The optimiser's numbers."""
    return call("optimizer", Optimization, group(config, "optimizer"))


def make_schedule(config: Config) -> Schedule:
    """The trainer's numbers."""
    values = {key: value for key, value in group(config, "trainer").items() if key not in _COMPUTE}
    if values.get("num_workers") == "auto":
        values["num_workers"] = num_loaders(num_cpus())
    return call("trainer", Schedule, values)


def make_grouping(config: Config) -> Grouping:
    """How votes become instances; a checkpoint that says nothing of it gets the defaults."""
    return call("instances", Grouping, group(config, "instances") if "instances" in config else {})


def pixels_at_once(config: Config) -> int:
    """Pixels of one micro-batch of training: what the memory is known to hold, and more without gradients."""
    schedule = make_schedule(config)
    crop, whole = group(config, "data.augmentation").get("crop"), group(config, "data").get("image_size")
    # Not `make_augmentation`, which refuses crops of frames that are smaller here than in training.
    height, width = check_size("data.augmentation.crop", crop) if crop else check_size("data.image_size", whole)
    return min(schedule.batch_size // schedule.accumulate * height * width, _MOST_PIXELS)


def is_seed(value: Any) -> bool:
    """Whether a value is a seed that torch takes."""
    return fits(value, int) and 0 <= value <= MOST_SEED


def make_seed(config: Config) -> int:
    """The run's seed."""
    seed: Any = config.get("seed")
    if not is_seed(seed):
        raise UserError(f"seed: needed a whole number from 0 to {MOST_SEED}, found {shown(seed)}")
    return int(seed)


def make_device(config: Config) -> Compute:
    """Device, precision and memory format."""
    trainer = group(config, "trainer")
    return call("trainer", make_compute, {key: trainer[key] for key in _COMPUTE if key in trainer})


def _without(value: Any, names: set[str]) -> Any:
    """``value``, without the entries of these names if it is a mapping."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if name not in names}
