"""Checks of a checkpoint's content, which may come from an untrusted source."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from multitask.errors import UserError, shown
from multitask.models.tensors import first_difference, first_not_finite, first_other_type
from multitask.weighting import Weighting

_MAX_DEPTH, _MAX_VALUES, _MAX_TEXT, _MAX_KEY, _MAX_BITS = 16, 10_000, 4096, 200, 64
"""Limits of a configuration: depth, number of values, characters of a text and of a key, bits of an integer."""

_PENALTY_OF_EACH_COMPONENT = 2
"""First version of checkpoints in which the likelihood of a vector counts s once per component."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and _is_count(n) for key, n in value.items())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and not _CONTROL.search(item) for item in value)


def _is_table(value: Any) -> bool:
    """Whether a value is a class table, or a list of class names, which older versions saved."""
    return "classes" in value if isinstance(value, dict) else _are_texts(value)


def _are_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _is_random_state(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.uint8 and value.dim() == 1


def _are_random_states(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("cuda"), list):
        return False
    return all(map(_is_random_state, [value.get("torch"), *value["cuda"]]))


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "version": ("a whole number", _is_count),
    "step": ("a whole number", _is_count),
    "validated": ("a whole number", _is_count),
    "precision": ("a type's name", lambda value: isinstance(value, str) and _is_plain(value)),
    "network": ("tensors by name", _are_tensors),
    "weighting": ("tensors by name", _are_tensors),
    "optimizer": ("an optimiser's state", lambda value: isinstance(value, dict)),
    "scaler": ("a loss scale's state", lambda value: isinstance(value, dict)),
    "seen_pixels": ("numbers of pixels by task", _are_counts),
    "rng": ("the states of random generators", _are_random_states),
    "score": ("a number", lambda value: isinstance(value, float) and value < math.inf),
    "config": ("a configuration", lambda value: isinstance(value, dict)),
    "classes": ("a class table", _is_table),
    "tasks": ("a list of names", _are_texts),
}
"""Required type of each part of every checkpoint, in words and as a predicate."""

_NOT_ALWAYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "seconds": ("a number of seconds", lambda value: type(value) in (int, float) and 0 <= value < 1e12),
    "frames": ("the frames in words", lambda value: isinstance(value, str) and _is_plain(value)),
}

KEYS = _KINDS.keys()
"""Keys of every checkpoint."""


def check_kinds(state: Mapping[str, Any], source: str) -> None:
    """Refuses a checkpoint with a part of the wrong type; all of `KEYS` must be present.

    Raises:
        UserError: beginning with ``source``, and naming the first such key.
    """
    for key, (words, fits) in (_KINDS | _NOT_ALWAYS).items():
        if (key in KEYS or key in state) and not fits(state[key]):
            raise UserError(f"{source}: {key}: needed {words}, found {_brief(state[key])}")
    for key in ("config", "classes"):
        _check_plain(key, state[key], source)


def check_likelihoods(weighting: Weighting, version: int, source: str) -> None:
    """Refuses a checkpoint of a version in which the log-variances of vectors counted s once for all components.

    Args:
        weighting: of the run that is to go on.
        version: of the checkpoint.
        source: what errors begin with, ``checkpoint=PATH``.
    Raises:
        UserError: naming the checkpoint and the task.
    """
    vectors = [name for name in weighting.log_variances() if weighting.likelihoods[name].components > 1]
    if vectors and version < _PENALTY_OF_EACH_COMPONENT:
        raise UserError(
            f"{source}: was trained with another likelihood of task {vectors[0]!r}, in which s counted once for all "
            f"components; model.pretrained={source.removeprefix('checkpoint=')} starts a new run from its weights"
        )


def check_resumable(
    state: Mapping[str, Any],
    weighting: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    tasks: Collection[str],
    source: str,
) -> None:
    """Refuses a checkpoint that a run cannot resume from, before the run is changed.

    Args:
        state: the checkpoint as `multitask.engine.checkpoint.load` returns it.
        weighting: weighting of the run that is to resume.
        optimizer: its optimizer.
        scaler: its gradient scaler.
        tasks: names of its tasks.
        source: prefix of errors.
    Raises:
        UserError: naming the first key that differs.
    """
    if other := sorted(state["seen_pixels"].keys() ^ set(tasks)):
        raise UserError(f"{source}: seen_pixels: needed the tasks {list(tasks)}, found otherwise {shown(other)}")
    wanted, found = weighting.state_dict(), state["weighting"]
    if difference := first_difference(wanted, found) or first_other_type(wanted, found, exactly=True):
        raise UserError(f"{source}: of another weighting or optimiser: {difference}")
    if fault := first_not_finite(found):
        raise UserError(f"{source}: weighting: spoilt: {fault}")
    _check_random_state(state["rng"]["torch"], "cpu", f"{source}: rng")
    if len(state["rng"]["cuda"]) == torch.cuda.device_count():  # otherwise from another machine, and not used
        for generator in state["rng"]["cuda"]:
            _check_random_state(generator, "cuda", f"{source}: rng")
    for key in scaler.state_dict():
        if not isinstance(value := state["scaler"].get(key), int | float) or not math.isfinite(value):
            raise UserError(f"{source}: scaler: {key}: needed a number, found {_brief(value)}")
    _check_optimizer(optimizer, state["optimizer"], f"{source}: optimizer")


def _check_random_state(state: Tensor, device: str, source: str) -> None:
    try:
        torch.Generator(device).set_state(state)
    except RuntimeError as error:
        raise UserError(f"{source}: needed a state of torch's generator, found {_brief(state)}") from error


def _check_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], source: str) -> None:
    groups = state.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(optimizer.param_groups):
        raise UserError(f"{source}: needed {len(optimizer.param_groups)} groups of parameters, found {_brief(groups)}")
    numbers: list[Any] = []
    for group, needed in zip(groups, optimizer.param_groups, strict=True):
        if not isinstance(group, dict) or not isinstance(group.get("params"), list):
            raise UserError(f"{source}: needed a group of parameters, found {_brief(group)}")
        if len(group["params"]) != len(needed["params"]):
            raise UserError(f"{source}: needed {len(needed['params'])} parameters, found {len(group['params'])}")
        for key, value in needed.items():
            # The learning rate is set in each step; older runs and versions of torch lack some keys.
            if key not in ("params", "lr") and key in group and not _same(group[key], value):
                raise UserError(f"{source}: {key}: needed {shown(value)}, found {_brief(group[key])}")
        numbers += group["params"]
    if numbers != list(range(len(numbers))):
        raise UserError(f"{source}: needed parameters numbered from 0, found {shown(numbers)}")
    kept = state.get("state")
    if not isinstance(kept, dict) or not kept.keys() <= set(numbers):
        raise UserError(f"{source}: needed what is kept of each parameter, found {_brief(kept)}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in kept.items():
        only = isinstance(values, dict) and values.keys() <= {"momentum_buffer"}
        momentum = values.get("momentum_buffer") if only else values
        if momentum is not None and not _fits(momentum, parameters[number]):
            what = f"a finite momentum {tuple(parameters[number].shape)}"
            raise UserError(f"{source}: parameter {number}: needed {what}, found {_brief(momentum)}")


def _fits(momentum: Any, parameter: Tensor) -> bool:
    if not isinstance(momentum, Tensor) or momentum.layout != torch.strided or momentum.dtype != parameter.dtype:
        return False
    return momentum.shape == parameter.shape and bool(momentum.isfinite().all())


def _same(found: Any, needed: Any) -> bool:
    """Whether an optimizer's option has the needed value; for None, by which torch chooses, a bool also fits."""
    if needed is None:
        return found is None or isinstance(found, bool)
    return type(found) in (type(needed), int, float) and bool(found == needed)


def _brief(value: Any) -> str:
    """Formats a value for an error; of a tensor or a container only the type and the size."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, dict | list | tuple | set) else shown(value)


def _check_plain(key: str, content: Any, source: str) -> None:
    """Refuses a part that holds anything but dicts, lists, texts and numbers, or more of them than any run has."""
    left: list[tuple[str, Any, int]] = [(key, content, 0)]
    seen = 0
    while left:
        key, value, depth = left.pop()
        where = f"{source}: {key[:_MAX_KEY]}"
        seen += 1
        items: list[tuple[Any, Any]] = []
        if isinstance(value, dict | list):
            if depth == _MAX_DEPTH or seen + len(left) + len(value) > _MAX_VALUES:
                raise UserError(f"{where}: needed at most {_MAX_VALUES} values in {_MAX_DEPTH} levels, found more")
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
        elif not _is_plain(value):
            raise UserError(f"{where}: needed a text, a number, a truth or null, found {_brief(value)}")
        for name, item in items:
            if isinstance(value, dict) and not (isinstance(name, str) and _is_plain(name) and len(name) < _MAX_KEY):
                raise UserError(f"{where}: needed the name of a key, found {_brief(name)}")
            left.append((f"{key}.{name}", item, depth + 1))


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT and not _CONTROL.search(value)
    if isinstance(value, int):
        return value.bit_length() <= _MAX_BITS
    return value is None or isinstance(value, float)
