"""Checkpoints: written whole or not at all, and loaded without running any code of theirs."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from multitask.data.labels import CLASS_NAMES
from multitask.models.pretrained import first_difference, first_line

VERSION = 1

KEYS = {"version", "step", "network", "weighting", "optimizer", "scaler", "rng", "score", "config", "classes", "tasks"}


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint beside ``path``, flushes it to the disk and renames it over what was there.

    Raises:
        ValueError: naming the file, if it cannot be written, because the disk is full for example; a checkpoint that
            was there before is untouched.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"version": VERSION, "classes": list(CLASS_NAMES), **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch turns some failed writes into RuntimeError
        temporary.unlink(missing_ok=True)
        kept = "the checkpoint before it is untouched" if path.exists() else "there was none before it"
        raise ValueError(f"{path}: could not save the checkpoint ({error}); {kept}") from error


def load(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Raises:
        ValueError: naming the file, if it is missing, truncated, not a checkpoint of this package, newer than this
            version, or of another class table.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint={path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise ValueError(
            f"checkpoint={path}: not a readable checkpoint, {path.stat().st_size} bytes ({first_line(error)})"
        ) from error
    if isinstance(state, dict):
        check_version(state, f"checkpoint={path}")  # before its keys, which may be others
    if not isinstance(state, dict) or not state.keys() >= KEYS:
        missing = sorted(KEYS - state.keys()) if isinstance(state, dict) else sorted(KEYS)
        raise ValueError(f"checkpoint={path}: not a checkpoint of this package, it lacks {missing}")
    if state["classes"] != list(CLASS_NAMES):
        raise ValueError(f"checkpoint={path}: needed the classes {list(CLASS_NAMES)}, found {state['classes']}")
    return state


def check_version(state: Mapping[str, Any], source: str) -> None:
    """Refuses a checkpoint that a newer version of this package has written.

    Raises:
        ValueError: beginning with ``source``.
    """
    version = state.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"{source}: needed version {VERSION} or older, found {version}")


def load_network(network: torch.nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Puts a checkpoint's parameters into ``network``.

    Raises:
        ValueError: naming the first parameter that differs, if the checkpoint is of another architecture.
    """
    if difference := first_difference(network.state_dict(), state["network"]):
        raise ValueError(f"checkpoint={source}: of another architecture: {difference}")
    network.load_state_dict(state["network"])


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the file system can do that to a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
