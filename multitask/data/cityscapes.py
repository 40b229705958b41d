"""Data sets in the Cityscapes layout."""

import logging
from pathlib import Path

import numpy as np

from multitask.data.classes import IGNORE, INSTANCE_BASE
from multitask.data.folder import Folder, size_error
from multitask.data.ids import check_thousands, read_class_ids, read_instance_ids
from multitask.data.layout import SUFFIX, decode_disparity, file_path
from multitask.data.reading import visible

log = logging.getLogger(__name__)

_LOOKED_AT = 3
"""Number of frames by which the labels of a test split are judged."""


class Cityscapes(Folder):
    """One split of a data set in the Cityscapes layout: ``leftImg8bit``, ``gtFine``, ``disparity`` and ``camera``."""

    images = f"<city>/<city>_<seq>_<frame>{SUFFIX['image'][1]}"

    @classmethod
    def splits(cls, root: Path, kind: str = "image") -> list[str]:
        """Returns the names of the splits for which there are files of one kind."""
        return sorted(path.name for path in visible(root / SUFFIX[kind][0], "*") if path.is_dir())

    def _finish(self, strict: bool) -> None:
        if "instance_ids" in self.kinds:
            check_thousands(self.table, self.where)
        self._only_unseen = strict and self.split == "test" and self._has_placeholders()
        if self._only_unseen:
            log.info(
                "data.root=%s: the labels of split 'test' are placeholders without an evaluated class; they say which "
                "pixels depth leaves out, but not where the sky is",
                self.root,
            )
            self.kinds -= {"class_ids", "instance_ids"}

    def _has_placeholders(self) -> bool:
        """Whether the first frames show no evaluated class: the published test labels only say what to ignore."""
        labelled = [name for name in self.names if "class_ids" in self.kinds_of(name)][:_LOOKED_AT]
        train_ids = (self.table.train_ids[self.read("class_ids", name)] for name in labelled)
        return bool(labelled) and all((ids == IGNORE).all() for ids in train_ids)

    def splits_there(self) -> list[str]:
        return self.splits(self.root)

    def folder(self, kind: str) -> Path:
        return self.root / SUFFIX[kind][0] / self.split

    def path(self, kind: str, name: str) -> Path:
        return file_path(self.root, kind, self.split, name)

    def find(self, kind: str) -> dict[Path, str]:
        suffix = SUFFIX[kind][1]
        return {path: path.name.removesuffix(suffix) for path in visible(self.folder(kind), f"*/*{suffix}")}

    def read(self, kind: str, name: str) -> np.ndarray:
        layer = super().read(kind, name)
        if kind == "disparity" and self._only_unseen and not self._is_missing("class_ids", name):
            ids = super().read("class_ids", name)
            if ids.shape != layer.shape:
                raise size_error(self.path("class_ids", name), self.path(kind, name), layer.shape, ids.shape)
            layer = np.where(np.isin(ids, self.table.unseen_ids), np.nan, layer).astype(layer.dtype)
        return layer

    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        if kind == "class_ids":
            return read_class_ids(path, coded, self.table)
        if kind == "instance_ids":
            return read_instance_ids(path, coded, self.table, INSTANCE_BASE, first=0)
        return decode_disparity(coded)
