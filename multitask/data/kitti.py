"""KITTI 2015: the semantics, stereo and calibration downloads, unpacked into one folder.

<root>/training/image_2/NNNNNN_10.png            8-bit RGB
<root>/training/semantic/NNNNNN_10.png           8-bit class ids, as Cityscapes has them
<root>/training/instance/NNNNNN_10.png           16-bit, class id * 256 + k; k counts stuff, too, and is 0 for none
<root>/training/disp_occ_0/NNNNNN_10.png         16-bit, 0 or disparity * 256
<root>/training/calib_cam_to_cam/NNNNNN.txt
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from multitask.data.classes import UNKNOWN
from multitask.data.folder import WHOLE, Folder
from multitask.data.ids import read_class_ids, read_instance_ids
from multitask.data.layout import Camera
from multitask.data.reading import read_text, visible
from multitask.data.split import LABEL_KINDS
from multitask.errors import UserError

FOLDERS = {
    "image": "image_2/",
    "class_ids": "semantic/",
    "instance_ids": "instance/",
    "disparity": "disp_occ_0/",
    "camera": "calib_cam_to_cam/",
}
"""Folder by kind of file."""

_PLATE = 255
"""Cityscapes' class -1, licence plate, in 8 bits; read as no class, as in Cityscapes' own files."""

_BASE = 256
"""Base of the coding ``class id * 256 + k`` in instance files."""

_VAL_EVERY = 5
"""Period of the validation frames: of five labelled frames the last validates, whose number ends in 4 or 9."""


class Kitti(Folder):
    """One split of KITTI 2015: ``train`` and ``val`` share the 200 frames with labels, ``test`` has none."""

    images = "NNNNNN_10.png"
    derived_splits = ("train", "val")

    def _begin(self) -> None:
        self._top = "testing" if self.split == "test" else "training"  # also for a fold's test frames

    def _finish(self, strict: bool) -> None:
        if strict and self.split != "test" and not self.kinds.intersection(LABEL_KINDS):
            folders = " or ".join(str(self.folder(kind)) for kind in LABEL_KINDS)
            raise UserError(f"{self.where}: needed labels in {folders}, found none")

    @classmethod
    def splits(cls, root: Path, kind: str = "image") -> list[str]:
        """Returns the names of the splits for which there are files of one kind."""
        parts = {"training": ["train", "val"], "testing": ["test"]}
        return [split for top, names in parts.items() if (root / top / FOLDERS[kind]).is_dir() for split in names]

    def splits_there(self) -> list[str]:
        return self.splits(self.root)

    def folder(self, kind: str) -> Path:
        return self.root / self._top / FOLDERS[kind]

    def path(self, kind: str, name: str) -> Path:
        return self.folder(kind) / (f"{name.removesuffix('_10')}.txt" if kind == "camera" else f"{name}.png")

    def find(self, kind: str) -> dict[Path, str]:
        ending = ".txt" if kind == "camera" else "_10.png"
        numbers = {path: path.name.removesuffix(ending) for path in visible(self.folder(kind), "[0-9]" * 6 + ending)}
        return {path: f"{number}_10" for path, number in numbers.items() if self._holds(int(number))}

    def _holds(self, number: int) -> bool:
        validates = number % _VAL_EVERY == _VAL_EVERY - 1
        return self.split in ("test", WHOLE) or validates == (self.split == "val")

    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        if kind == "class_ids":
            return self._without_plates(coded, coded, lambda ids: read_class_ids(path, ids, self.table))
        if kind == "instance_ids":
            plates = coded // _BASE
            return self._without_plates(coded, plates, lambda ids: read_instance_ids(path, ids, self.table, _BASE))
        disparity = coded.astype(np.float32) / 256
        disparity[coded == 0] = np.nan
        return disparity

    def _without_plates(
        self, coded: np.ndarray, label_ids: np.ndarray, read: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Reads class or instance ids (H, W), with pixels of `_PLATE` as no class, unless the table has that value."""
        plates = label_ids == _PLATE
        if self.table.class_ids[_PLATE] != UNKNOWN or not plates.any():
            return read(coded)
        ids = np.zeros_like(coded, dtype=np.uint8 if coded.dtype == np.uint8 else np.int32)
        ids[~plates] = read(coded[~plates])
        return ids

    def read_camera(self, name: str) -> Camera:
        return read_calibration(self.path("camera", name))


def read_calibration(path: Path) -> Camera:
    """Reads the left colour camera of ``calib_cam_to_cam``; the baseline is its distance from the right one.

    Raises:
        UserError: naming the file, if it is missing, not text, or lacks a required number.
    """
    lines = read_text(path).splitlines()
    rows = {key.strip(): values.split() for key, _, values in (line.partition(":") for line in lines)}
    left, right = (_projection(path, key, rows.get(key, [])) for key in ("P_rect_02", "P_rect_03"))
    fx, u0, fy, v0 = (left[index] for index in (0, 2, 5, 6))
    for key, value in (("fx", fx), ("fy", fy)):
        if not value > 0:
            raise UserError(f"{path}: needed {key} > 0, found {value}")
    # The fourth number is -fx times the camera's offset to the right of a common origin, in m.
    baseline = (left[3] - right[3]) / fx
    if not baseline > 0:
        raise UserError(f"{path}: needed baseline > 0, found {baseline}")
    return Camera(baseline, fx, fy, u0, v0)


def _projection(path: Path, key: str, values: list[str]) -> list[float]:
    """Parses the 12 numbers of a 3 x 4 projection matrix."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != 12 or not all(map(math.isfinite, numbers)):
        raise UserError(f"{path}: needed 12 numbers at {key}, found {len(values)} words")
    return numbers
