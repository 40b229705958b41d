"""Reads every file of a data set: counts what is in those without a fault, and names those with one."""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from multitask.data.classes import INSTANCE_BASE, ClassTable
from multitask.data.folder import Folder, Layout, size_error
from multitask.data.parallel import for_each
from multitask.data.split import LABEL_KINDS
from multitask.errors import UserError

KINDS: tuple[str, ...] = ("image", *LABEL_KINDS, "camera")

_SIZE = (1, 1)  # files are read at their own


@dataclass
class Census:
    """What files hold.

    Attributes:
        num_frames: images that are there, readable or not.
        files: how many of each kind are without a fault; a kind that the whole split lacks is not named.
        labels: how many frames have which kinds of labels, whether these have faults or not.
        sizes: how many images have each size, (H, W) px.
        pixels: (256,) int64, px by class id.
        instances: (256,) int64, single instances by class id.
        measured: px with a disparity, and px of all disparity files.
        faults: a line for each, which begins with the file.
    """

    num_frames: int = 0
    files: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    instances: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    measured: np.ndarray = field(default_factory=lambda: np.zeros(2, dtype=np.int64))
    faults: list[str] = field(default_factory=list)

    def add(self, other: "Census") -> None:
        """Adds what was found in other files."""
        self.num_frames += other.num_frames
        self.files.update(other.files)
        self.labels.update(other.labels)
        self.sizes.update(other.sizes)
        self.pixels += other.pixels
        self.instances += other.instances
        self.measured += other.measured
        self.faults += other.faults


def take_census(
    layout: Layout,
    root: Path,
    split: str,
    classes: ClassTable,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    partial: bool = False,
) -> Census:
    """Reads every file of one split, and says which files are missing or belong to no image.

    Args:
        layout: of the data set.
        root: of the data set.
        split: one that is there.
        classes: the table of the label files.
        workers: processes.
        progress: called with the number of frames done and of all.
        partial: whether an image may be without any of its other files.
    """
    census = Census()
    try:
        frames = layout(root, split, _SIZE, classes, strict=False, partial=partial)
    except UserError as error:  # there is not one image
        census.faults.append(str(error))
        return census
    for counted in for_each(functools.partial(count_frame, frames), frames.names, workers):
        for one in counted:
            census.add(one)
        progress(census.num_frames, len(frames))
    census.faults += [f"{path}: belongs to no image of split {split!r}" for path in frames.strays()]
    if not census.faults:
        try:
            layout(root, split, _SIZE, classes, partial=partial)
        except UserError as error:  # every file is right, but together they are no data set
            census.faults.append(str(error))
    census.faults.sort()
    return census


def count_frame(frames: Folder, name: str) -> Census:
    """Reads every file of one frame."""
    census = Census(num_frames=1)
    layers: dict[str, np.ndarray] = {}
    there = {"image"} | (frames.kinds_of(name) & frames.files_of(name))
    census.labels[" + ".join(kind for kind in LABEL_KINDS if kind in there) or "no labels"] = 1
    for kind in (kind for kind in KINDS if kind in there):
        census.files[kind] = 0
        try:
            if kind == "camera":
                frames.read_camera(name)
            else:
                layer = frames.read(kind, name)
                frames.check_file(kind, name)
                layers[kind] = layer
        except UserError as error:
            census.faults.append(str(error))
        else:
            census.files[kind] = 1
    _check_sizes(frames, name, layers, census)
    if found := frames.contradiction(name, layers):
        wrong, contradiction = found
        census.faults.append(str(contradiction))
        census.files[wrong] = 0
        del layers[wrong]
    _count(layers, census)
    return census


def _check_sizes(frames: Folder, name: str, layers: dict[str, np.ndarray], census: Census) -> None:
    """Refuses layers that have another size than most; of two that differ, the label."""
    sizes = [layer.shape[:2] for layer in layers.values()]
    if len(set(sizes)) < 2:
        return
    common = max(sizes, key=sizes.count)  # the first of those that are as frequent: the image's
    other = next(kind for kind, layer in layers.items() if layer.shape[:2] == common)
    for kind, layer in list(layers.items()):
        if layer.shape[:2] != common:
            error = size_error(frames.path(kind, name), frames.path(other, name), common, layer.shape)
            census.faults.append(str(error))
            census.files[kind] = 0
            del layers[kind]


def _count(layers: dict[str, np.ndarray], census: Census) -> None:
    if "image" in layers:
        height, width = layers["image"].shape[:2]
        census.sizes[height, width] += 1
    if "class_ids" in layers:
        census.pixels += np.bincount(layers["class_ids"].reshape(-1), minlength=256)
    if "instance_ids" in layers:
        ids = np.unique(layers["instance_ids"])
        census.instances += np.bincount(ids[ids >= INSTANCE_BASE] // INSTANCE_BASE, minlength=256)
    if "disparity" in layers:
        census.measured += [np.isfinite(layers["disparity"]).sum(), layers["disparity"].size]
