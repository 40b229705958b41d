"""Tiny Cityscapes (section 5): Cityscapes at a small size, written once instead of being resized at every reading."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multitask.data import manifest
from multitask.data.cityscapes import Cityscapes
from multitask.data.classes import ClassTable
from multitask.data.layout import are_intact, encode_disparity, file_path, write_camera, write_png
from multitask.data.parallel import for_each
from multitask.data.split import LABEL_KINDS
from multitask.errors import UserError

MANIFEST = manifest.TINY

_MEASUREMENTS = "median of each cell"
"""Method of shrinking disparity, for the manifest: older versions used others, which must not be mixed with it."""

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Job:
    split: Cityscapes
    index: int


def shrink(
    source: Path,
    root: Path,
    size: tuple[int, int],
    classes: ClassTable,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    partial: bool = False,
) -> dict[str, int]:
    """Writes every split of the data set at ``source`` to ``root`` at another size.

    Images are area-filtered; labels take the nearest pixel, disparity the median of the measured pixels in each cell
    (see `multitask.data.cells`); disparity (px) and the camera's intrinsics are scaled. Existing frames that are intact
    and of this size are kept, so that the next call finishes an interrupted one; all files are checked at the end.

    Args:
        source: folder in the Cityscapes layout.
        root: folder to write to: new, empty, or begun by an earlier call with the same arguments.
        size: (H, W) px.
        classes: class table of the source's label files.
        workers: number of processes.
        progress: called with the number of frames done and the number of all frames.
        partial: whether a frame of the source may lack files that others have.
    Returns:
        Number of frames of each split.
    Raises:
        UserError: naming the file or folder, for a damaged source, one with fewer frames than ``root``'s manifest
            names, or a ``root`` that has other content or that another process is writing to.
    """
    if root.resolve() == source.resolve():
        raise UserError(f"data.root={root}: needed another folder than data.source")
    there = [split for split in _SPLITS if (source / "leftImg8bit" / split).is_dir()]
    splits = [Cityscapes(source, split, size, classes, partial=partial) for split in there]
    if not splits:
        raise UserError(f"data.source={source}: needed leftImg8bit/<split>/<city>/*.png, found no split")
    content: dict[str, Any] = {"source": str(source.resolve()), "size": list(size), "disparity": _MEASUREMENTS}
    counts = {split.split: len(split) for split in splits}
    jobs = [_Job(split, index) for split in splits for index in range(len(split))]
    with manifest.claimed(root, MANIFEST, content) as found:
        before = (found or {}).get("counts", {})
        _check_counts(f"data.source={source}", before, counts)
        if found != (content := {**content, "counts": {**before, **counts}}):
            manifest.write(root, MANIFEST, content)
        done = 0
        for finished in for_each(functools.partial(_shrink_frame, root, size), jobs, workers):
            done += len(finished)
            if progress:
                progress(done, len(jobs))
        for split in splits:
            Cityscapes(root, split.split, size, classes, partial=partial).check_headers()
    return counts


def _check_counts(where: str, before: Mapping[str, int], now: Mapping[str, int]) -> None:
    """Refuses a source that has lost frames since ``root`` was written from it."""
    for split, count in now.items():
        if count < before.get(split, 0):
            raise UserError(
                f"{where}: needed the {before[split]} frames of split {split!r} that {MANIFEST} names, found {count}"
            )


def _shrink_frame(root: Path, size: tuple[int, int], job: _Job) -> None:
    split, name = job.split, job.split.names[job.index]
    paths = {kind: file_path(root, kind, split.split, name) for kind in ("image", *split.kinds_of(name))}
    if are_intact(paths, size):
        return
    sample = split[job.index]
    if sample.camera is not None:
        write_camera(paths["camera"], sample.camera)
    for kind in LABEL_KINDS:
        layer = getattr(sample, kind)
        if layer is not None:
            write_png(paths[kind], encode_disparity(layer) if kind == "disparity" else _unsigned(kind, layer))
    write_png(paths["image"], sample.image)


def _unsigned(kind: str, layer: np.ndarray) -> np.ndarray:
    return layer.astype(np.uint16 if kind == "instance_ids" else np.uint8)
