"""Finds and reads data sets in the Cityscapes layout."""

import copy
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from multitask.data.labels import INSTANCE_BASE, LABELS
from multitask.data.layout import SUFFIX, decode_disparity, file_path, read_camera, read_header, read_png
from multitask.data.sample import Sample
from multitask.data.transforms import resize

LABEL_KINDS: tuple[str, ...] = ("class_ids", "instance_ids", "disparity")


class Cityscapes:
    """One split of a data set in the Cityscapes layout, read as downloaded.

    A kind of label (class ids, instance ids, disparity) or the camera files may be missing for the whole split; a kind
    that is there must be there for every image.

    Args:
        root: folder that holds ``leftImg8bit``, ``gtFine``, ``disparity`` and ``camera``.
        split: ``train``, ``val`` or ``test``.
        image_size: (H, W) px at which frames are handed out: frames of another size are resized.
    Raises:
        ValueError: naming the folder or file, if the root, the split, its images or single label files are missing.
    """

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int]) -> None:
        self.root = Path(root)
        self.split = split
        self.image_size = check_size("data.image_size", image_size)
        self.names = _frame_names(self.root, split)
        self.kinds = frozenset(kind for kind in (*LABEL_KINDS, "camera") if self._is_there(kind))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame.

        Raises:
            ValueError: naming the file, if one is damaged, of another bit depth or size, or holds unknown ids.
        """
        name = self.names[index]
        layers = {kind: self._read(kind, name) for kind in ("image", *LABEL_KINDS) if kind == "image" or self.has(kind)}
        image = layers.pop("image")
        for kind, layer in layers.items():
            if layer.shape != image.shape[:2]:
                raise self._size_error(kind, name, image.shape[:2], layer.shape)
        camera = read_camera(self.path("camera", name)) if self.has("camera") else None
        return resize(Sample(name, image, camera=camera, **layers), self.image_size)

    def only(self, indices: Iterable[int]) -> "Cityscapes":
        """The same split with these frames alone."""
        part = copy.copy(self)
        part.names = [self.names[index] for index in indices]
        return part

    def has(self, kind: str) -> bool:
        """Whether the split has this kind of label (or ``camera``, or ``image``)."""
        return kind == "image" or kind in self.kinds

    def path(self, kind: str, name: str) -> Path:
        """The file of one kind of frame ``name``."""
        return file_path(self.root, kind, self.split, name)

    def source_size(self, name: str) -> tuple[int, int]:
        """(H, W) px of a frame's files.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        height, width = read_header(self.path("image", name), "image")
        return height, width

    def check_headers(self) -> None:
        """Opens every PNG without decoding it and reads every camera file, so that faults are found before any work.

        Raises:
            ValueError: naming the first file that is not what it should be.
        """
        # Threads, since what takes the time is opening files, on network disks above all.
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(self._check_frame, self.names):
                pass

    def _check_frame(self, name: str) -> None:
        size = read_header(self.path("image", name), "image")
        for kind in LABEL_KINDS:
            if self.has(kind) and (found := read_header(self.path(kind, name), kind)) != size:
                raise self._size_error(kind, name, size, found)
        if self.has("camera"):
            read_camera(self.path("camera", name))

    def _read(self, kind: str, name: str) -> np.ndarray:
        path = self.path(kind, name)
        array = read_png(path, kind)
        if kind == "class_ids" and (largest := int(array.max())) >= len(LABELS):
            raise ValueError(f"{path}: needed class ids from 0 to {len(LABELS) - 1}, found {largest}")
        if kind == "instance_ids":
            return _check_instance_ids(path, array.astype(np.int32))
        return decode_disparity(array) if kind == "disparity" else array

    def _is_there(self, kind: str) -> bool:
        """Whether a kind of file is there; if so, it must be there for every image."""
        folder = self.root / SUFFIX[kind][0] / self.split
        there = set(folder.glob(f"*/*{SUFFIX[kind][1]}"))
        if there:
            for name in self.names:
                path = self.path(kind, name)
                if path not in there:
                    raise ValueError(f"{path}: no such file, but {self.path('image', name)} needs it")
        return bool(there)

    def _size_error(self, kind: str, name: str, needed: Sequence[int], found: Sequence[int]) -> ValueError:
        return ValueError(
            f"{self.path(kind, name)}: needed {needed[0]} x {needed[1]} px, the size of {self.path('image', name)}, "
            f"found {found[0]} x {found[1]}"
        )


def check_size(key: str, size: Sequence[int]) -> tuple[int, int]:
    """Checks an (H, W) in px from the configuration; ``key`` names it in the error."""
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(x, int) and x > 0 for x in size):
        raise ValueError(f"{key}: needed two positive whole numbers [H, W], found {size!r}")
    return size[0], size[1]


def _frame_names(root: Path, split: str) -> list[str]:
    if not root.is_dir():
        raise ValueError(f"data.root={root}: no such folder; data/README.md says how to obtain each data set")
    top, suffix = SUFFIX["image"]
    folder = root / top / split
    if not folder.is_dir():
        splits = sorted(path.name for path in (root / top).glob("*") if path.is_dir())
        raise ValueError(f"{folder}: no such folder; needed split {split!r}, found {splits or 'no split'}")
    names = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*/*{suffix}"))
    if not names:
        raise ValueError(f"{folder}: needed images <city>/<city>_<seq>_<frame>{suffix}, found none")
    for name in names:
        if not file_path(root, "image", split, name).is_file():
            raise ValueError(f"{folder}: image {name}{suffix} does not lie in the folder of its city")
    return names


def _check_instance_ids(path: Path, ids: np.ndarray) -> np.ndarray:
    largest = int(ids.max())
    if largest >= len(LABELS) * INSTANCE_BASE:
        raise ValueError(f"{path}: needed instance ids below {len(LABELS) * INSTANCE_BASE}, found {largest}")
    unknown = ids[(ids >= len(LABELS)) & (ids < INSTANCE_BASE)]
    if unknown.size:
        raise ValueError(f"{path}: needed class ids from 0 to {len(LABELS) - 1}, found {int(unknown[0])}")
    return ids
