"""A network that starts from what another run has learned."""

import logging
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from multitask.data.labels import CLASS_NAMES
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.models.network import MultiTaskNetwork
from multitask.models.pretrained import first_difference
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


def find_run(path: str) -> dict[str, Any] | None:
    """The checkpoint of a run of this package, if the file is one: its tensors stay on the disk until they are used."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch raises many kinds; whoever reads the file as something else says what is wrong with it
        return None
    if isinstance(state, dict) and "network" in state:
        checkpoint.check_version(state, f"model.pretrained={path}")  # before its keys, which may be others
    return state if isinstance(state, dict) and state.keys() >= checkpoint.KEYS else None


def start_from(network: MultiTaskNetwork, tasks: Mapping[str, Task], state: Mapping[str, Any], source: str) -> None:
    """Fills a network with what fits of a run's, of other tasks or another class table perhaps; a line says what.

    The encoder must be the same. A decoder keeps its hidden layer alone where its last one has other channels, or the
    classes of another table; it starts afresh where the run had no such task or a hidden layer of another shape.

    Args:
        network: new, and so random.
        tasks: of its decoders.
        state: see `find_run`.
        source: what errors and the line begin with.
    Raises:
        UserError: naming the first tensor of the encoder that differs.
    """
    wanted, found = network.state_dict(), state["network"]
    taken = _below("encoder.", found)
    if difference := first_difference(_below("encoder.", wanted), taken):
        raise UserError(f"{source}: of another encoder: {difference}")
    whole: list[str] = []
    cut: list[str] = []
    afresh: list[str] = []
    for name, task in tasks.items():
        hidden, output = (f"decoders.{name}.{layer}." for layer in ("hidden", "output"))
        if first_difference(_below(hidden, wanted), _below(hidden, found)):
            afresh.append(name)
            continue
        taken |= _below(hidden, found)
        other_classes = task.per_class and state["classes"] != list(CLASS_NAMES)
        if other_classes or first_difference(_below(output, wanted), _below(output, found)):
            cut.append(name)
        else:
            taken |= _below(output, found)
            whole.append(name)
    network.load_state_dict(taken, strict=False)
    said = {"decoders loaded": whole, "last layers re-initialised": cut, "decoders that start afresh": afresh}
    log.info("%s: encoder loaded%s", source, "".join(f"; {what}: {', '.join(x)}" for what, x in said.items() if x))


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith(prefix)}
