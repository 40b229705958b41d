"""Data sets in the Cityscapes layout."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multitask.data.labels import IGNORE, TRAIN_ID
from multitask.data.layout import SUFFIX, decode_disparity, file_path
from multitask.data.split import Folder, check_class_ids, check_instance_ids

log = logging.getLogger(__name__)

_LOOKED_AT = 3
"""Frames of a test split by which its labels are judged."""


class Cityscapes(Folder):
    """One split of a data set in the Cityscapes layout: ``leftImg8bit``, ``gtFine``, ``disparity`` and ``camera``."""

    images = f"<city>/<city>_<seq>_<frame>{SUFFIX['image'][1]}"

    @classmethod
    def splits(cls, root: Path, kind: str = "image") -> list[str]:
        return sorted(path.name for path in (root / SUFFIX[kind][0]).glob("*") if path.is_dir())

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int], *, strict: bool = True) -> None:
        super().__init__(root, split, image_size, strict=strict)
        if strict and split == "test" and self._has_placeholders():
            log.info("data.root=%s: the labels of split 'test' are placeholders without an evaluated class", root)
            self.kinds -= {"class_ids", "instance_ids"}

    def _has_placeholders(self) -> bool:
        """Whether the first frames show no class that counts: the published test labels say what to ignore alone."""
        if not self.has("class_ids"):
            return False
        return all((TRAIN_ID[self.read("class_ids", name)] == IGNORE).all() for name in self.names[:_LOOKED_AT])

    def folder(self, kind: str) -> Path:
        return self.root / SUFFIX[kind][0] / self.split

    def path(self, kind: str, name: str) -> Path:
        return file_path(self.root, kind, self.split, name)

    def find(self, kind: str) -> dict[Path, str]:
        suffix = SUFFIX[kind][1]
        return {path: path.name.removesuffix(suffix) for path in self.folder(kind).glob(f"*/*{suffix}")}

    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        if kind == "class_ids":
            return check_class_ids(path, coded)
        if kind == "instance_ids":
            return check_instance_ids(path, coded.astype(np.int32))
        return decode_disparity(coded)
