"""From a configuration (plain dicts, as resolved by Hydra or kept in a checkpoint) to the objects it describes."""

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from multitask.data.formats import open_split
from multitask.data.parallel import num_cpus
from multitask.data.split import Split, check_size
from multitask.data.synthetic import check_manifest
from multitask.data.transforms import Augmentation
from multitask.engine.compute import Compute, make_compute
from multitask.engine.pretrained import find_run, start_from
from multitask.engine.settings import Optimization, Schedule
from multitask.errors import UserError
from multitask.instances import Grouping
from multitask.models.network import MultiTaskNetwork, make_network
from multitask.tasks.base import Task
from multitask.weighting import Weighting

log = logging.getLogger(__name__)

Config = Mapping[str, Any]
T = TypeVar("T")

_DRAW = 2  # a random stream of the seed, beside those of the loader
_COMPUTE = ("device", "precision", "channels_last")


def make_tasks(config: Config) -> dict[str, Task]:
    """The tasks of ``config["tasks"]``, in that order."""
    names, known = config["tasks"], config["task"]
    if not isinstance(names, list):
        raise UserError(f"tasks: needed a list such as {sorted(known)}, found {names!r}")
    if not names:
        raise UserError(f"tasks: needed at least one of {sorted(known)}, found none")
    if len(set(names)) < len(names):
        raise UserError(f"tasks: needed each task once, found {list(names)}")
    for name in names:
        if name not in known:
            raise UserError(f"tasks: needed some of {sorted(known)}, found {name!r}")
    return {name: make(f"task.{name}", known[name], Task) for name in names}


HELD_OUT = "held_out"
"""The split of the training frames that nothing is trained on, to choose by."""


def make_frames(config: Config, split: str) -> Split:
    """One split of the data set: one of its own, of whose ``train`` a part may be drawn, or `HELD_OUT`."""
    data = config["data"]
    if data["name"] == "synthetic" and "root" in data:
        check_manifest(Path(data["root"]), data)
    if split not in ("train", HELD_OUT):
        return open_split(data, split)
    frames = open_split(data, "train")
    held_out, draw = data.get("held_out", 0), data.get("draw")
    if not _fits(held_out, int) or not 0 <= held_out < len(frames):
        raise UserError(f"data.held_out: needed 0 to {len(frames) - 1} frames, found {held_out!r}")
    rest = len(frames) - held_out
    if split == HELD_OUT:
        if not held_out:
            raise UserError(f"split {HELD_OUT!r}: needed data.held_out above zero, found {held_out}")
        return frames.only(range(rest, len(frames)))
    if draw is None:
        return frames.only(range(rest))
    if not _fits(draw, int) or not 1 <= draw <= rest:
        raise UserError(f"data.draw: needed null or 1 to {rest} frames, found {draw!r}")
    drawn = np.random.default_rng((make_seed(config), _DRAW)).choice(rest, draw, replace=False)
    return frames.only(sorted(drawn.tolist()))


def tasks_with_labels(tasks: Mapping[str, Task], frames: Split, *, any_needed: bool = True) -> dict[str, Task]:
    """The tasks whose labels the data set has; a line says which are off for the want of them.

    Raises:
        UserError: if none is left and ``any_needed``.
    """
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
    values = dict(config["data"]["augmentation"])
    if isinstance(values.get("scale"), list):
        values["scale"] = tuple(values["scale"])
    if values.get("crop") is not None:
        values["crop"] = check_size("data.augmentation.crop", values["crop"])
    augmentation = call("data.augmentation", Augmentation, values)
    if augmentation.crop:
        largest = [round(side * augmentation.scale[1]) for side in config["data"]["image_size"]]
        if any(crop > side for crop, side in zip(augmentation.crop, largest, strict=True)):
            raise UserError(
                f"data.augmentation.crop: needed at most {largest}, the largest scaled frame, found {values['crop']}"
            )
    return augmentation


def make_model(config: Config, tasks: Mapping[str, Task]) -> MultiTaskNetwork:
    """The network with one decoder for each task, which starts as ``model.pretrained`` says."""
    channels, model = {name: task.channels for name, task in tasks.items()}, config["model"]
    pretrained = model.get("pretrained")
    run = find_run(pretrained) if isinstance(pretrained, str) else None
    network = call("model", make_network, {**model, "pretrained": None} if run else model, channels)
    if run:
        start_from(network, tasks, run, f"model.pretrained={pretrained}")
    return network


def make_weighting(config: Config, tasks: Mapping[str, Task]) -> Weighting:
    """The weighting of the tasks' losses; what it says of tasks that are off for want of labels is left out."""
    spec, off = config["weighting"], set(config["tasks"]) - set(tasks)
    if isinstance(spec, Mapping):
        spec = {key: _without(value, off) for key, value in spec.items()}
    return make("weighting", spec, Weighting, {name: task.likelihood for name, task in tasks.items()})


def make_optimization(config: Config) -> Optimization:
    """The optimiser's numbers."""
    return call("optimizer", Optimization, config["optimizer"])


def make_schedule(config: Config) -> Schedule:
    """The trainer's numbers."""
    values = {key: value for key, value in config["trainer"].items() if key not in _COMPUTE}
    if values.get("num_workers") == "auto":
        values["num_workers"] = max(1, min(16, num_cpus() - 1))
    return call("trainer", Schedule, values)


def make_grouping(config: Config) -> Grouping:
    """How votes become instances; a checkpoint that says nothing of it gets the defaults."""
    return call("instances", Grouping, config.get("instances", {}))


def pixels_at_once(config: Config) -> int:
    """Pixels of one micro-batch of training: what the memory is known to hold, and more without gradients."""
    schedule = make_schedule(config)
    crop, whole = config["data"]["augmentation"]["crop"], config["data"]["image_size"]
    # Not `make_augmentation`, which refuses crops of frames that are smaller here than in training.
    height, width = check_size("data.augmentation.crop", crop) if crop else check_size("data.image_size", whole)
    return schedule.batch_size // schedule.accumulate * height * width


def make_seed(config: Config) -> int:
    """The run's seed."""
    seed = config["seed"]
    if not _fits(seed, int) or seed < 0:
        raise UserError(f"seed: needed a whole number >= 0, found {seed!r}")
    return int(seed)


def make_device(config: Config) -> Compute:
    """Device, precision and memory format."""
    return call("trainer", make_compute, {key: config["trainer"][key] for key in _COMPUTE})


def make(key: str, spec: Config, base: type[T], *args: Any) -> T:
    """Builds the object that a part of the configuration describes by its ``_target_`` and keyword arguments.

    Args:
        key: of that part, for errors.
        spec: ``_target_`` (a dotted name of a class) and its keyword arguments.
        base: what the class must be derived from. A checkpoint's configuration is data from elsewhere: it can name no
            function, and no class but these.
        args: positional arguments in front.
    """
    if not isinstance(spec, Mapping):
        raise UserError(f"{key}: needed _target_ and its arguments, found {spec!r}")
    arguments = dict(spec)
    target = arguments.pop("_target_", None)
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"{key}._target_: needed the dotted name of a class, found {target!r} ({error})") from error
    if not (isinstance(found, type) and issubclass(found, base) and not inspect.isabstract(found)):
        raise UserError(f"{key}._target_: needed a {base.__name__}, found {target!r}")
    return call(key, found, arguments, *args)


def call(key: str, function: Callable[..., T], arguments: Config, *args: Any) -> T:
    """Calls ``function``, with an error that names the key where the arguments do not fit its signature."""
    parameters = dict(list(inspect.signature(function).parameters.items())[len(args) :])
    hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    for name, value in arguments.items():
        if name not in parameters:
            raise UserError(f"{key}.{name}: unknown key, needed some of {list(parameters)}")
        if not _fits(value, hints.get(name, Any)):
            raise UserError(f"{key}.{name}: needed {_words(hints[name])}, found {value!r}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise UserError(f"{key}.{name}: needed a value, found none")
    return function(*args, **arguments)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a type, as far as configurations need: numbers, texts, and containers of them."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values())
    if hint in (int, float):  # True is an int to Python, and to nobody else
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _without(value: Any, names: set[str]) -> Any:
    """``value``, without the entries of these names if it is a mapping."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if name not in names}


def _words(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)) if get_origin(hint) is None else str(hint)
