"""Checkpoints: written atomically, and loaded without running any code from the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from multitask.data.class_tables import built_in, table_of
from multitask.data.classes import ClassTable
from multitask.engine.state import KEYS, check_kinds
from multitask.errors import UserError, shown
from multitask.files import atomic_writer
from multitask.models import archive
from multitask.models.tensors import first_difference, first_not_finite, first_other_type

VERSION = 4
"""Version of the format: incremented when resumed runs would train differently, or parameters are renamed."""

_BEFORE = "cityscapes"
"""Class table of all runs before version 4, whose checkpoints hold only its class names."""

_RENAMED = 3, "encoder.resnet.", "encoder.backbone."
"""Version that renamed a part of the network, with the old and the new prefix."""


class Damaged(UserError):
    """The error for a file that cannot be read as a checkpoint."""


def save(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: path of the file.
        state: content of the checkpoint except the version.
        previous: new path of the checkpoint that was at ``path``; None: the old checkpoint is lost.
    Raises:
        UserError: naming the file, if it cannot be written, for example because the disk is full; an existing
            checkpoint is then unchanged.
    """
    try:
        with atomic_writer(path, previous=previous) as file:
            _dump({"version": VERSION, **state}, file)
    except UserError as error:
        kept = "the checkpoint before it is untouched" if path.exists() else "there was none before it"
        raise UserError(f"{error}; {kept}") from error


def load(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Raises:
        Damaged: naming the file, if it cannot be read.
        UserError: naming the file, if it is missing, not a checkpoint of this package, or newer than this version.
    """
    path, source = Path(path), f"checkpoint={path}"
    if not path.is_file():
        raise UserError(f"{source}: no such file")
    try:
        state = archive.read(path)
    except UserError as error:
        size = path.stat().st_size
        raise Damaged(f"{source}: not a readable checkpoint, {size} bytes ({error})") from error
    state = check_content(state, source)
    if (held := sum(value.nbytes for value in state["network"].values())) > path.stat().st_size:
        raise UserError(f"{source}: network: {held} bytes of tensors in a file of {path.stat().st_size}")
    return state


def check_content(content: Any, source: str) -> dict[str, Any]:
    """Returns a file's content under today's names if it is a checkpoint of this package, of this version or older.

    Raises:
        UserError: beginning with ``source``, if it is not.
    """
    state = content if isinstance(content, dict) else {}
    version = state.get("version")
    if isinstance(version, int) and version > VERSION:  # before the keys are checked, which may differ
        raise UserError(f"{source}: needed version {VERSION} or older, found {shown(version)}")
    if missing := sorted(KEYS - state.keys()):
        raise UserError(f"{source}: not a checkpoint of this package, it lacks {missing}")
    check_kinds(state, source)
    return {**state, "network": _network_of(state)}


def table_of_run(state: Mapping[str, Any], source: str) -> ClassTable:
    """Returns the class table of a checkpoint's run; older versions always trained on the classes of Cityscapes.

    Raises:
        UserError: beginning with ``source``, if the checkpoint holds no valid class table.
    """
    content = state["classes"]
    if isinstance(content, Mapping):
        return table_of(content, f"{source}: classes")
    table = built_in(_BEFORE)
    if content != list(table.names):
        raise UserError(f"{source}: needed the classes {list(table.names)}, found {shown(content)}")
    return table


def _network_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns a checkpoint's parameters under today's names."""
    since, before, now = _RENAMED
    if state["version"] >= since:
        return dict(state["network"])
    return {f"{now}{k[len(before) :]}" if k.startswith(before) else k: v for k, v in state["network"].items()}


def load_network(network: torch.nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Puts a checkpoint's parameters into ``network``.

    Args:
        network: the network to fill. If it is on the meta device, memory is allocated, on the CPU, only once the
            parameters are known to fit.
        state: the checkpoint as `load` returns it.
        source: path of the checkpoint.
    Raises:
        UserError: naming the first parameter that is not finite or does not fit the network's architecture.
    """
    wanted, found = network.state_dict(), state["network"]
    if difference := first_difference(wanted, found) or first_other_type(wanted, found, exactly=True):
        raise UserError(f"checkpoint={source}: of another architecture: {difference}")
    if fault := first_not_finite(found):
        raise UserError(f"checkpoint={source}: spoilt: {fault}")
    if any(value.is_meta for value in wanted.values()):
        network.to_empty(device="cpu")
    network.load_state_dict(found)


def _dump(state: Mapping[str, Any], file: BinaryIO) -> None:
    """Writes with torch.save, but raises the OSError of a failed write, which torch hides behind a RuntimeError."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None
