"""A checkpoint to the network in it, rebuilt as the checkpoint's own configuration says."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multitask import build
from multitask.build import Config
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.models.network import MultiTaskNetwork
from multitask.tasks.base import Task


@dataclass(frozen=True)
class Trained:
    """A trained network, on the CPU.

    Attributes:
        config: of its run, changed where that was asked for.
        tasks: that it was trained for.
        network: with its trained parameters.
    """

    config: Config
    tasks: dict[str, Task]
    network: MultiTaskNetwork


def load_trained(source: str | Path, change: Callable[[Config], Config] = dict) -> Trained:
    """Loads a checkpoint, running no code of its: of its tasks' modules those alone that the user has chosen.

    Args:
        source: path of the checkpoint.
        change: gets the configuration that the checkpoint holds and returns the one to build by.
    Raises:
        UserError: naming the file, if it cannot be read, is none of this package, newer than it, or not whole.
    """
    state: dict[str, Any] = checkpoint.load(source)
    if not isinstance(state["config"], Mapping):
        raise UserError(f"checkpoint={source}: needed a configuration, found {type(state['config']).__name__}")
    config = change(state["config"])
    _check_targets(config, state["tasks"], source)
    try:
        tasks = build.make_tasks({**config, "tasks": state["tasks"]})
        # What a checkpoint brings along is not fetched from anywhere else.
        network = build.make_model({**config, "model": {**config["model"], "pretrained": None}}, tasks)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"checkpoint={source}: needed the whole configuration of a run ({error!r})") from error
    checkpoint.load_network(network, state, source)
    return Trained(config, tasks, network)


def _check_targets(config: Config, tasks: Iterable[str], source: str | Path) -> None:
    """Refuses tasks of modules that are nobody's choice here: to import a module is to run what is in it."""
    folders = [Path(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    for name in tasks:
        spec = config["task"].get(name) if isinstance(config.get("task"), Mapping) else None
        target = str(spec.get("_target_")) if isinstance(spec, Mapping) else ""
        module = target.rpartition(".")[0]
        top = module.partition(".")[0]
        chosen = any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for folder in folders)
        if module and top != __name__.partition(".")[0] and module not in sys.modules and not chosen:
            raise UserError(
                f"checkpoint={source}: task.{name}._target_: needed a class of this package, or of a module that is "
                f"imported already or lies in a folder of PYTHONPATH, found {target!r}"
            )
