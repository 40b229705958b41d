"""A checkpoint to the network in it, rebuilt as the checkpoint's own configuration says."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from multitask.config.factories import Config, make_model, make_tasks
from multitask.config.overrides import merge
from multitask.config.signatures import is_dotted
from multitask.config.validation import check_config
from multitask.data.classes import ClassTable
from multitask.data.formats import MAPPED_BEFORE
from multitask.engine import checkpoint
from multitask.errors import UserError, shown
from multitask.models.network import MultiTaskNetwork
from multitask.tasks.base import Task


@dataclass(frozen=True)
class Trained:
    """A trained network, on the CPU.

    Attributes:
        config: of its run, changed where that was asked for.
        classes: the class table that it was trained for.
        tasks: that it was trained for.
        network: with its trained parameters.
    """

    config: Config
    classes: ClassTable
    tasks: dict[str, Task]
    network: MultiTaskNetwork


_MOST_WORKERS = 16
"""That a checkpoint asks for: one from elsewhere may name any number."""


def load_trained(source: str | Path, given: Config | None = None, overrides: Sequence[str] = ()) -> Trained:
    """Loads a checkpoint, running no code of its: of its tasks' modules those alone that the user has chosen.

    Args:
        source: path of the checkpoint.
        given: a configuration whose values at the keys that ``overrides`` name take the place of the checkpoint's.
        overrides: ``key=value`` or ``group=choice``, as typed.
    Raises:
        UserError: naming the file, if it cannot be read, is none of this package, newer than it, or not whole.
    """
    state: dict[str, Any] = checkpoint.load(source)
    try:
        check_config(state["config"])
    except UserError as error:
        raise UserError(f"checkpoint={source}: {error}") from error
    classes = checkpoint.table_of_run(state, f"checkpoint={source}")
    config = merge(_with_few_workers(_with_classes(state["config"], classes)), given or {}, overrides)
    check_config(config)
    try:
        _check_targets(config, state["tasks"])
        tasks = make_tasks({**config, "tasks": state["tasks"]}, classes)
        # What a checkpoint brings along is not fetched from anywhere else.
        alone = {**config, "model": {**config["model"], "pretrained": None}}
        with torch.device("meta"):  # no memory for parameters, of which there may be more than the checkpoint holds
            network = make_model(alone, tasks)
    except UserError as error:
        raise UserError(f"checkpoint={source}: {error}") from error
    checkpoint.load_network(network, state, source)
    return Trained(config, classes, tasks, network)


def _with_classes(config: Config, classes: ClassTable) -> Config:
    """A run's configuration with its class table in the place of the table's name: the file may have changed since.

    Of older versions, whose configurations have none, CamVid's labels were read as those of Cityscapes.
    """
    data = dict(config["data"])
    if "classes" not in data and data.get("format") in MAPPED_BEFORE:
        data["mappings"] = MAPPED_BEFORE[data["format"]]
    return {**config, "data": {**data, "classes": classes.content()}}


def _with_few_workers(config: Config) -> Config:
    trainer = config["trainer"]
    number = trainer["num_workers"]
    few = min(number, _MOST_WORKERS) if isinstance(number, int) else number
    return {**config, "trainer": {**trainer, "num_workers": few}}


def _check_targets(config: Config, tasks: Iterable[str]) -> None:
    """Refuses tasks of modules that are nobody's choice here: to import a module is to run what is in it."""
    folders = [Path(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    for name in tasks:
        spec = config["task"].get(name)
        target = spec.get("_target_") if isinstance(spec, Mapping) else None
        if not is_dotted(target):
            continue  # which making the task refuses
        module = str(target).rpartition(".")[0]
        top = module.partition(".")[0]
        chosen = any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for folder in folders)
        if top != __name__.partition(".")[0] and module not in sys.modules and not chosen:
            raise UserError(
                f"task.{name}._target_: needed a class of this package, or of a module that is imported already or "
                f"lies in a folder of PYTHONPATH, found {shown(target)}"
            )
