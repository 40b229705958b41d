"""Checkpoints: written whole or not at all, and loaded without running any code of theirs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from multitask.data.labels import CLASS_NAMES
from multitask.errors import UserError
from multitask.files import keep, whole
from multitask.models.pretrained import first_difference, first_line

VERSION = 1

KEYS = {"version", "step", "network", "weighting", "optimizer", "scaler", "rng", "score", "config", "classes", "tasks"}


def save(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: of the file.
        state: what it holds beside the version and the class table.
        previous: where the checkpoint goes that was at ``path``; None: it is replaced.
    Raises:
        UserError: naming the file, if it cannot be written, because the disk is full for example; a checkpoint that
            was there before is untouched.
    """
    try:
        with whole(path) as file:
            _dump({"version": VERSION, "classes": list(CLASS_NAMES), **state}, file)
            if previous:
                keep(path, previous)
    except UserError as error:
        kept = "the checkpoint before it is untouched" if path.exists() else "there was none before it"
        raise UserError(f"{error}; {kept}") from error


def load(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Raises:
        UserError: naming the file, if it is missing, truncated, not a checkpoint of this package, newer than this
            version, or of another class table.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint={path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise UserError(
            f"checkpoint={path}: not a readable checkpoint, {path.stat().st_size} bytes ({first_line(error)})"
        ) from error
    if isinstance(state, dict):
        check_version(state, f"checkpoint={path}")  # before its keys, which may be others
    if not isinstance(state, dict) or not state.keys() >= KEYS:
        missing = sorted(KEYS - state.keys()) if isinstance(state, dict) else sorted(KEYS)
        raise UserError(f"checkpoint={path}: not a checkpoint of this package, it lacks {missing}")
    if state["classes"] != list(CLASS_NAMES):
        raise UserError(f"checkpoint={path}: needed the classes {list(CLASS_NAMES)}, found {state['classes']}")
    return state


def check_version(state: Mapping[str, Any], source: str) -> None:
    """Refuses a checkpoint that a newer version of this package has written.

    Raises:
        UserError: beginning with ``source``.
    """
    version = state.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{source}: needed version {VERSION} or older, found {version}")


def load_network(network: torch.nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Puts a checkpoint's parameters into ``network``.

    Raises:
        UserError: naming the first parameter that differs, if the checkpoint is of another architecture.
    """
    if difference := first_difference(network.state_dict(), state["network"]):
        raise UserError(f"checkpoint={source}: of another architecture: {difference}")
    network.load_state_dict(state["network"])


def _dump(state: Mapping[str, Any], file: BinaryIO) -> None:
    """Writes with torch, which turns a failed write into a RuntimeError about positions: the first error is raised."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None
