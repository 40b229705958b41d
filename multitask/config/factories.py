"""Factories of the objects that a configuration describes (plain dicts, resolved by Hydra or from a checkpoint)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from multitask.config.signatures import call, fits, make
from multitask.data.class_tables import read_table
from multitask.data.classes import ClassTable
from multitask.data.parallel import num_cpus, num_loaders
from multitask.data.split import Split, check_size
from multitask.data.subset import open_frames
from multitask.data.transforms import Augmentation
from multitask.engine.compute import Compute, make_compute
from multitask.engine.optimization import Optimization
from multitask.engine.schedule import Schedule
from multitask.engine.warm_start import find_run, start_from
from multitask.errors import UserError, shown
from multitask.instances import Grouping
from multitask.models.network import MultiTaskNetwork, make_network
from multitask.tasks.base import Task
from multitask.weighting import Weighting

Config = Mapping[str, Any]

_COMPUTE = ("device", "precision", "channels_last")
MAX_SEED = 2**64 - 1  # the largest that torch accepts

_MAX_PIXELS = 2**22
"""Largest number of pixels per evaluation batch: more is no faster, and a foreign checkpoint may ask for any number."""


def group(config: Config, key: str) -> Config:
    """Returns a group of a configuration by its dotted key, such as ``data.augmentation``."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise UserError(f"{key}: needed a group of keys, found {shown(found)}")
    return found


def make_classes(config: Config) -> ClassTable:
    """Makes the class table of the labels from ``data.classes``, which is its name or its content."""
    return read_table(group(config, "data").get("classes"))


def make_tasks(config: Config, classes: ClassTable) -> dict[str, Task]:
    """Makes the tasks of ``config["tasks"]``, in that order."""
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


def make_frames(config: Config, split: str) -> Split:
    """Opens one split of the data set, restricted to the frames that the run uses."""
    return make_splits(config, split)[0]


def make_splits(config: Config, *splits: str) -> list[Split]:
    """Opens several splits, see `make_frames`."""
    data, seed = group(config, "data"), make_seed(config)
    return [open_frames(data, split, seed) for split in splits]


def make_augmentation(config: Config) -> Augmentation:
    """Makes the augmentation of the training split."""
    values = dict(group(config, "data.augmentation"))
    if isinstance(values.get("scale"), list):
        values["scale"] = tuple(values["scale"])
    if values.get("crop") is not None:
        values["crop"] = check_size("data.augmentation.crop", values["crop"])
    return call("data.augmentation", Augmentation, values)


def make_model(config: Config, tasks: Mapping[str, Task]) -> MultiTaskNetwork:
    """Makes the network with one decoder per task, initialised as ``model.pretrained`` says."""
    channels, model = {name: task.channels for name, task in tasks.items()}, group(config, "model")
    pretrained = model.get("pretrained")
    run = find_run(pretrained) if isinstance(pretrained, str) else None
    network = call("model", make_network, {**model, "pretrained": None} if run else model, channels)
    if run:
        start_from(network, tasks, run, f"model.pretrained={pretrained}")
    return network


def make_weighting(config: Config, tasks: Mapping[str, Task]) -> Weighting:
    """Makes the weighting of the tasks' losses; its settings for tasks that are off for lack of labels are ignored."""
    off = set(config["tasks"]) - set(tasks)
    spec = {key: _without(value, off) for key, value in group(config, "weighting").items()}
    return make("weighting", spec, Weighting, {name: task.likelihood for name, task in tasks.items()})


def make_optimization(config: Config) -> Optimization:
    """Makes the settings of the optimizer."""
    return call("optimizer", Optimization, group(config, "optimizer"))


def make_schedule(config: Config) -> Schedule:
    """Makes the schedule of a run from the group ``trainer``."""
    values = {key: value for key, value in group(config, "trainer").items() if key not in _COMPUTE}
    if values.get("num_workers") == "auto":
        values["num_workers"] = num_loaders(num_cpus())
    return call("trainer", Schedule, values)


def make_grouping(config: Config) -> Grouping:
    """Makes the settings of grouping votes into instances; the defaults for an older checkpoint without the group."""
    return call("instances", Grouping, group(config, "instances") if "instances" in config else {})


def pixels_at_once(config: Config) -> int:
    """Returns the pixels of one micro-batch of training, which fit the memory all the more without gradients."""
    schedule = make_schedule(config)
    crop, frame = group(config, "data.augmentation").get("crop"), group(config, "data").get("image_size")
    height, width = check_size("data.augmentation.crop", crop) if crop else check_size("data.image_size", frame)
    return min(schedule.batch_size // schedule.accumulate * height * width, _MAX_PIXELS)


class EvaluationSettings(NamedTuple):
    """Settings of an evaluation.

    Attributes:
        compute: device, precision and memory format.
        grouping: settings of the grouping of votes into instances.
        pixels_at_once: largest number of pixels of all frames of a batch together.
        num_workers: number of data loader workers.
    """

    compute: Compute
    grouping: Grouping
    pixels_at_once: int
    num_workers: int


def make_evaluation_settings(config: Config) -> EvaluationSettings:
    """Makes the settings with which a run's network is evaluated, during training and later."""
    compute, grouping, num_workers = make_device(config), make_grouping(config), make_schedule(config).num_workers
    return EvaluationSettings(compute, grouping, pixels_at_once(config), num_workers)


class TrainingSettings(NamedTuple):
    """Settings of a training run.

    Attributes:
        compute: device, precision and memory format.
        schedule: length of the run, batch size and intervals.
        seed: seed of everything random.
        optimization: settings of the optimizer.
        augmentation: augmentation of the training frames.
        evaluation: settings of validation and final evaluation.
    """

    compute: Compute
    schedule: Schedule
    seed: int
    optimization: Optimization
    augmentation: Augmentation
    evaluation: EvaluationSettings


def make_training_settings(config: Config) -> TrainingSettings:
    """Makes the settings of a training run."""
    return TrainingSettings(
        make_device(config),
        make_schedule(config),
        make_seed(config),
        make_optimization(config),
        make_augmentation(config),
        make_evaluation_settings(config),
    )


def is_seed(value: Any) -> bool:
    """Whether a value is a seed that torch accepts."""
    return fits(value, int) and 0 <= value <= MAX_SEED


def make_seed(config: Config) -> int:
    """Returns the run's seed."""
    seed: Any = config.get("seed")
    if not is_seed(seed):
        raise UserError(f"seed: needed a whole number from 0 to {MAX_SEED}, found {shown(seed)}")
    return int(seed)


def make_device(config: Config) -> Compute:
    """Makes the device, the precision and the memory format."""
    trainer = group(config, "trainer")
    return call("trainer", make_compute, {key: trainer[key] for key in _COMPUTE if key in trainer})


def _without(value: Any, names: set[str]) -> Any:
    """Returns ``value``, without the entries called ``names`` if it is a mapping."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if name not in names}
