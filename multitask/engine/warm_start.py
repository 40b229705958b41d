"""Warm starts: initialisation of a network from the checkpoint of another run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from multitask.engine.checkpoint import check_content, table_of_run
from multitask.errors import UserError
from multitask.models import archive
from multitask.models.network import MultiTaskNetwork
from multitask.models.pretrained import SAFETENSORS
from multitask.models.tensors import first_difference, first_not_finite, first_other_type
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


def find_run(path: str) -> dict[str, Any] | None:
    """Returns the content of a checkpoint of this package, with today's parameter names; None for any other file.

    The tensors are memory-mapped: they stay on the disk until they are used.

    Raises:
        UserError: naming the file, if it is damaged, newer than this version or not a valid checkpoint.
    """
    source = f"model.pretrained={path}"
    if not Path(path).is_file() or path.endswith(SAFETENSORS):
        return None
    try:
        state = archive.read(Path(path), mmap=True)
    except UserError as error:
        raise UserError(f"{source}: not a file of tensors ({error})") from error
    if not isinstance(state, dict) or not state.keys() >= {"version", "network"}:
        return None
    return check_content(state, source)


def start_from(network: MultiTaskNetwork, tasks: Mapping[str, Task], state: Mapping[str, Any], source: str) -> None:
    """Loads all parameters that fit from a run that may have other tasks or another class table, and logs which.

    The encoder must be the same. Of a decoder only the hidden layer is loaded if the output layer has other channels or
    predicts the classes of another table. A decoder is left as it is if the run had no such task or its hidden layer
    has another shape.

    Args:
        network: the new network, randomly initialised.
        tasks: the tasks of its decoders.
        state: a checkpoint as `find_run` returns it.
        source: prefix of errors and of the log line.
    Raises:
        UserError: naming the first tensor of the encoder that differs, or one that is not finite.
    """
    wanted, found, before = network.state_dict(), state["network"], table_of_run(state, source)
    taken = _below("encoder.", found)
    if difference := first_difference(_below("encoder.", wanted), taken):
        raise UserError(f"{source}: of another encoder: {difference}")
    complete: list[str] = []
    cut: list[str] = []
    afresh: list[str] = []
    for name, task in tasks.items():
        hidden, output = (f"decoders.{name}.{layer}." for layer in ("hidden", "output"))
        if first_difference(_below(hidden, wanted), _below(hidden, found)):
            afresh.append(name)
            continue
        taken |= _below(hidden, found)
        other_classes = task.per_class and before.names != task.classes.names
        if other_classes or first_difference(_below(output, wanted), _below(output, found)):
            cut.append(name)
        else:
            taken |= _below(output, found)
            complete.append(name)
    if difference := first_other_type(wanted, taken, exactly=True):
        raise UserError(f"{source}: {difference}")
    if fault := first_not_finite(taken):
        raise UserError(f"{source}: spoilt: {fault}")
    network.load_state_dict(taken, strict=False)
    said = {"decoders loaded": complete, "last layers re-initialised": cut, "decoders that start afresh": afresh}
    log.info("%s: encoder loaded%s", source, "".join(f"; {what}: {', '.join(x)}" for what, x in said.items() if x))


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith(prefix)}
