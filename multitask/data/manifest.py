"""Manifests: the file at the root of every data set that the project writes, with a description of its contents."""

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
"""File names of manifests; without the extension, names of the configurations ``data=`` that write them."""


def claim(root: Path, name: str, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Checks that ``root`` may be written to, and changes nothing.

    Args:
        root: the folder, which need not exist.
        name: file name of the manifest.
        content: values that an existing manifest must have; it may have more.
    Returns:
        The existing manifest, or None where the folder is new or empty.
    Raises:
        UserError: if the folder has other content: files without a manifest, or a manifest with another value.
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
    """Locks a folder for this process within ``with``, and yields the existing manifest, as `claim` returns it.

    Temporary files of killed processes are removed.

    Args:
        root: the folder, as in `claim`.
        name: file name of the manifest.
        content: values that an existing manifest must have.
    Raises:
        UserError: as for `claim`, before anything is written, or if another process is writing to the folder.
    """
    claim(root, name, content)
    with exclusive(root, "writing a data set", key="data.root"):
        found = claim(root, name, content)  # by now another process may have written it
        for folder, _, _ in os.walk(root):
            remove_leftovers(Path(folder))
        yield found


def read(root: Path, name: str) -> dict[str, Any]:
    """Reads an existing manifest.

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
    """Whether a file is a lock or temporary file that another call may leave or use before it writes the manifest."""
    return is_leftover(path) or path.name == LOCK


def check_frames(root: Path, name: str, split: str, counts: Mapping[str, int]) -> None:
    """Checks that a split has all frames that its manifest names; manifests of older versions may name no number.

    Args:
        root: root folder of the data set.
        name: file name of the manifest.
        split: name of the split.
        counts: number of files found, by kind.
    Raises:
        UserError: naming the command that writes the missing frames.
    """
    content = read(root, name)
    wanted = content.get("counts", {}).get(split, 0)
    # A frame of the embedded set has all kinds of files, a frame of Tiny Cityscapes those of its source.
    for kind in SUFFIX if name == SYNTHETIC else ("image",):
        if (found := counts.get(kind, 0)) < wanted:
            raise UserError(
                f"data.root={root}: needed the {wanted} frames of split {split!r} that {name} names, found {found} "
                f"{kind}; {_command(root, name, content)} writes the others"
            )


def _command(root: Path, name: str, content: Mapping[str, Any]) -> str:
    """Returns the command that writes a data set again, from its manifest."""
    keys = {"data": Path(name).stem, "data.root": root, "data.image_size": str(content.get("size")).replace(" ", "")}
    if name == TINY:
        keys["data.source"] = content.get("source")
    else:
        keys["data.seed"] = content.get("seed")
        keys |= {f"data.num_{split}": count for split, count in content.get("counts", {}).items()}
    return " ".join(["python scripts/prepare_data.py", *(shlex.quote(f"{key}={value}") for key, value in keys.items())])


def write(root: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes the manifest atomically."""
    write_json(root / name, content)


def check_manifest(root: Path, data: Mapping[str, Any]) -> None:
    """Checks that the frames at ``root`` match a run's configuration.

    Args:
        root: root folder of the data set; without a manifest it is not checked.
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
