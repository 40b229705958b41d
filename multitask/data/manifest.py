"""A file at the root of every data set that the project writes: it says what the folder holds, and so whose it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multitask.errors import UserError
from multitask.files import is_leftover, write_json


def claim(root: Path, name: str, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Checks that ``root`` may be written to; nothing is changed.

    Args:
        root: the folder, which need not exist.
        name: of the manifest's file.
        content: what must be in a manifest that is there; it may hold more.
    Returns:
        The manifest that is there, or None where the folder is new or empty.
    Raises:
        UserError: if the folder holds something else: no manifest, or one with another value.
    """
    path = root / name
    if not path.exists():
        if root.exists() and not root.is_dir():
            raise UserError(f"data.root={root}: needed a folder, found a file")
        if root.exists() and (other := sorted(item.name for item in root.iterdir() if not is_leftover(item))):
            raise UserError(
                f"data.root={root}: needed an empty folder or one with {name}, found {', '.join(other[:3])}"
            )
        return None
    try:
        found = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not a readable manifest ({error})") from error
    for key, value in content.items():
        if found.get(key) != value:
            raise UserError(
                f"data.root={root}: holds another data set: needed {key} {value!r}, found {found.get(key)!r} "
                f"in {name}; choose another data.root"
            )
    return found


def write(root: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes the manifest; it appears whole or not at all."""
    write_json(root / name, content)
