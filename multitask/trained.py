"""A checkpoint to the network in it, rebuilt as the checkpoint's own configuration says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multitask import build
from multitask.build import Config
from multitask.engine import checkpoint
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
    """Loads a checkpoint, running no code of its.

    Args:
        source: path of the checkpoint.
        change: gets the configuration that the checkpoint holds and returns the one to build by.
    Raises:
        ValueError: naming the file, if it cannot be read, is none of this package, newer than it, or not whole.
    """
    state: dict[str, Any] = checkpoint.load(source)
    if not isinstance(state["config"], Mapping):
        raise ValueError(f"checkpoint={source}: needed a configuration, found {type(state['config']).__name__}")
    config = change(state["config"])
    try:
        tasks = build.make_tasks({**config, "tasks": state["tasks"]})
        # What a checkpoint brings along is not fetched from anywhere else.
        network = build.make_model({**config, "model": {**config["model"], "pretrained": None}}, tasks)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"checkpoint={source}: needed the whole configuration of a run ({error!r})") from error
    checkpoint.load_network(network, state, source)
    return Trained(config, tasks, network)
