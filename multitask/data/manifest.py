"""A file at the root of every data set that the project writes: it says what the folder holds, and so whose it is."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multitask.data.layout import SUFFIX
from multitask.data.reading import read_text
from multitask.errors import UserError
from multitask.files import LOCK, exclusive, is_leftover, remove_leftovers, write_json

SYNTHETIC, TINY = "synthetic.json", "tiny_cityscapes.json"
NAMES = (SYNTHETIC, TINY)
"""Of the files; without the ending, of the configurations ``data=`` that write them."""


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
        if root.exists() and (other := sorted(item.name for item in root.iterdir() if not _is_ours(item))):
            raise UserError(
                f"data.root={root}: needed an empty folder or one with {name}, found {', '.join(other[:3])}"
            )
        return None
    found = read(root, name)
    for key, value in content.items():
        if found.get(key) != value:
            raise UserError(
                f"data.root={root}: holds another data set: needed {key} {value!r}, found {found.get(key)!r} "
                f"in {name}; choose another data.root"
            )
    return found


@contextmanager
def claimed(root: Path, name: str, content: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Has a folder for this process alone in ``with``: the manifest that is there, as `claim` returns it.

    What killed processes have left half-written is removed.

    Args:
        root: the folder, as in `claim`.
        name: of the manifest's file.
        content: what must be in it.
    Raises:
        UserError: as `claim`, before anything is written, or if another process writes to the folder.
    """
    claim(root, name, content)
    with exclusive(root, "writing a data set", key="data.root"):
        found = claim(root, name, content)  # by now another process may have written it
        for folder, _, _ in os.walk(root):
            remove_leftovers(Path(folder))
        yield found


def read(root: Path, name: str) -> dict[str, Any]:
    """A manifest that is there.

    Raises:
        UserError: naming the file, if it is damaged.
    """
    text = read_text(root / name)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{root / name}: not a readable manifest ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{root / name}: not a readable manifest (needed a table, found {type(found).__name__})")
    counts = found.get("counts", {})
    if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
        raise UserError(f"{root / name}: counts: needed a number of frames per split, found {counts}")
    return found


def _is_ours(path: Path) -> bool:
    """Whether a file is what another call may leave, or has there just now, before it writes the manifest."""
    return is_leftover(path) or path.name == LOCK


def check_frames(root: Path, name: str, split: str, there: Mapping[str, int]) -> None:
    """Checks that a split has all frames that its manifest names; those of older versions may not say how many.

    Args:
        root: of the data set.
        name: of the manifest's file.
        split: whose frames.
        there: number of files of each kind.
    Raises:
        UserError: naming the command that writes those that are missing.
    """
    content = read(root, name)
    wanted = content.get("counts", {}).get(split, 0)
    # A frame of the embedded set has everything; one of Tiny Cityscapes what its source has.
    for kind in SUFFIX if name == SYNTHETIC else ("image",):
        if (found := there.get(kind, 0)) < wanted:
            raise UserError(
                f"data.root={root}: needed the {wanted} frames of split {split!r} that {name} names, found {found} "
                f"{kind}; {_command(root, name, content)} writes the others"
            )


def _command(root: Path, name: str, content: Mapping[str, Any]) -> str:
    """What is to be typed to write a data set again, by its manifest."""
    keys = {"data": Path(name).stem, "data.root": root, "data.image_size": str(content.get("size")).replace(" ", "")}
    if name == TINY:
        keys["data.source"] = content.get("source")
    else:
        keys["data.seed"] = content.get("seed")
        keys |= {f"data.num_{split}": count for split, count in content.get("counts", {}).items()}
    return " ".join(["python scripts/prepare_data.py", *(shlex.quote(f"{key}={value}") for key, value in keys.items())])


def write(root: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes the manifest; it appears whole or not at all."""
    write_json(root / name, content)


def check_manifest(root: Path, data: Mapping[str, Any]) -> None:
    """Checks that the frames at ``root`` are those that a run's configuration speaks of.

    Args:
        root: of the data set; a folder without a manifest is not checked.
        data: the configuration group ``data``: ``seed`` and ``num_<split>``.
    Raises:
        UserError: naming the first key that differs.
    """
    if not (root / SYNTHETIC).exists():
        return
    found = read(root, SYNTHETIC)
    there = {"seed": found.get("seed"), **{f"num_{split}": n for split, n in found.get("counts", {}).items()}}
    for key, value in there.items():
        if key in data and data[key] != value:
            raise UserError(f"data.{key}={data[key]}: data.root={root} was written with {value}")
