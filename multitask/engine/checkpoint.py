"""Checkpoints: written whole or not at all, and loaded without running any code of theirs."""

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
"""Raised whenever a run would go on otherwise than it began, or parameters have other names."""

_BEFORE = "cityscapes"
"""The class table of all runs before version 4, whose checkpoints have its names alone."""

_RENAMED = 3, "encoder.resnet.", "encoder.backbone."
"""Since which version a part of the network has another name, and both names."""


class Damaged(UserError):
    """A checkpoint cannot be read, whatever it was."""


def save(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: of the file.
        state: what it holds beside the version.
        previous: where the checkpoint goes that was at ``path``; None: it is replaced.
    Raises:
        UserError: naming the file, if it cannot be written, because the disk is full for example; a checkpoint that
            was there before is untouched.
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
    state = check_whole(state, source)
    if (held := sum(value.nbytes for value in state["network"].values())) > path.stat().st_size:
        raise UserError(f"{source}: network: {held} bytes of tensors in a file of {path.stat().st_size}")
    return state


def check_whole(content: Any, source: str) -> dict[str, Any]:
    """What a file holds, under today's names, if that is a checkpoint of this package, of this version or an older one.

    Raises:
        UserError: beginning with ``source``.
    """
    state = content if isinstance(content, dict) else {}
    version = state.get("version")
    if isinstance(version, int) and version > VERSION:  # before its keys, which may be others
        raise UserError(f"{source}: needed version {VERSION} or older, found {shown(version)}")
    if missing := sorted(KEYS - state.keys()):
        raise UserError(f"{source}: not a checkpoint of this package, it lacks {missing}")
    check_kinds(state, source)
    return {**state, "network": _network_of(state)}


def table_of_run(state: Mapping[str, Any], source: str) -> ClassTable:
    """The class table of a checkpoint's run; what older versions learned were the classes of Cityscapes.

    Raises:
        UserError: beginning with ``source``, if it is none.
    """
    content = state["classes"]
    if isinstance(content, Mapping):
        return table_of(content, f"{source}: classes")
    table = built_in(_BEFORE)
    if content != list(table.names):
        raise UserError(f"{source}: needed the classes {list(table.names)}, found {shown(content)}")
    return table


def _network_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A checkpoint's parameters under today's names."""
    since, before, now = _RENAMED
    if state["version"] >= since:
        return dict(state["network"])
    return {f"{now}{k[len(before) :]}" if k.startswith(before) else k: v for k, v in state["network"].items()}


def load_network(network: torch.nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Puts a checkpoint's parameters into ``network``.

    Args:
        network: may be on the meta device: no memory is taken for it before it is known to fit, and it is on the CPU
            then.
        state: of `load`.
        source: path of the checkpoint.
    Raises:
        UserError: naming the first parameter that differs or is not finite, if the checkpoint is of another
            architecture or spoilt.
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
    """Writes with torch, which turns a failed write into a RuntimeError about positions: the first error is raised."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None
