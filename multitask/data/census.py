"""Reading every file of a data set to count the contents of sound files and list the faulty ones."""

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

_SIZE = (1, 1)  # required by the layout, but unused: files are read at their own size


@dataclass
class Census:
    """Counts of what the files of a data set contain.

    Attributes:
        num_frames: number of images found, readable or not.
        files: number of files without a fault, by kind; a kind that the whole split lacks has no entry.
        labels: number of frames by the kinds of labels that they have, faulty or not.
        sizes: number of images by size, (H, W) px.
        pixels: (256,) int64, px by class id.
        instances: (256,) int64, number of single instances by class id.
        measured: (2,) int64, px with a disparity, and px of all disparity files.
        faults: one line per fault, which begins with the file.
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
        """Adds the counts and faults of other files."""
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
    """Reads every file of one split, and reports files that are missing or belong to no image.

    Args:
        layout: layout of the data set.
        root: root folder of the data set.
        split: name of an existing split.
        classes: class table of the label files.
        workers: number of processes.
        progress: called with the number of frames done and the number of all frames.
        partial: whether an image may lack some of its other files.
    """
    census = Census()
    try:
        frames = layout(root, split, _SIZE, classes, strict=False, partial=partial)
    except UserError as error:  # there are no images at all
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
        except UserError as error:  # each file is sound, but together they are not a data set
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
    """Drops layers whose size differs from that of most; where only two differ, the label."""
    sizes = [layer.shape[:2] for layer in layers.values()]
    if len(set(sizes)) < 2:
        return
    common = max(sizes, key=sizes.count)  # on a tie the first, which is the image's
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
