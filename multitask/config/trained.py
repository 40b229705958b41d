"""Loading of a trained network, rebuilt from the checkpoint's own configuration."""

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
        config: configuration of its run, with the overrides applied.
        classes: the class table that it was trained on.
        tasks: the tasks that it was trained on.
        network: the network with its trained parameters.
    """

    config: Config
    classes: ClassTable
    tasks: dict[str, Task]
    network: MultiTaskNetwork


_MAX_WORKERS = 16
"""Largest number of workers accepted from a checkpoint: a foreign one may ask for any number."""


def load_trained(source: str | Path, given: Config | None = None, overrides: Sequence[str] = ()) -> Trained:
    """Loads a trained network without running code from the checkpoint.

    Of the modules that its tasks name, only those that the user has chosen are imported, see `_check_targets`.

    Args:
        source: path of the checkpoint.
        given: configuration with the new values of the keys that ``overrides`` names.
        overrides: ``key=value`` or ``group=choice``, as typed on the command line.
    Raises:
        UserError: naming the file, if it cannot be read, or is not a complete checkpoint of this version or older.
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
        # The checkpoint contains all parameters: pretrained ones are not loaded.
        alone = {**config, "model": {**config["model"], "pretrained": None}}
        with torch.device("meta"):  # the configuration may ask for more parameters than the checkpoint holds
            network = make_model(alone, tasks)
    except UserError as error:
        raise UserError(f"checkpoint={source}: {error}") from error
    checkpoint.load_network(network, state, source)
    return Trained(config, classes, tasks, network)


def _with_classes(config: Config, classes: ClassTable) -> Config:
    """Replaces the name of the class table in a configuration by the table itself: its file may have changed since.

    Configurations of older versions name no table: then CamVid's labels were mapped to the classes of Cityscapes.
    """
    data = dict(config["data"])
    if "classes" not in data and data.get("format") in MAPPED_BEFORE:
        data["mappings"] = MAPPED_BEFORE[data["format"]]
    return {**config, "data": {**data, "classes": classes.content()}}


def _with_few_workers(config: Config) -> Config:
    trainer = config["trainer"]
    number = trainer["num_workers"]
    few = min(number, _MAX_WORKERS) if isinstance(number, int) else number
    return {**config, "trainer": {**trainer, "num_workers": few}}


def _check_targets(config: Config, tasks: Iterable[str]) -> None:
    """Refuses tasks from modules that the user has not chosen, since importing a module runs its code."""
    folders = [Path(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    for name in tasks:
        spec = config["task"].get(name)
        target = spec.get("_target_") if isinstance(spec, Mapping) else None
        if not is_dotted(target):
            continue  # refused when the task is made
        module = str(target).rpartition(".")[0]
        top = module.partition(".")[0]
        chosen = any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for folder in folders)
        if top != __name__.partition(".")[0] and module not in sys.modules and not chosen:
            raise UserError(
                f"task.{name}._target_: needed a class of this package, or of a module that is imported already or "
                f"lies in a folder of PYTHONPATH, found {shown(target)}"
            )
