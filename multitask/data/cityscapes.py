"""Data sets in the Cityscapes layout."""

from pathlib import Path

import numpy as np

from multitask.data.layout import SUFFIX, decode_disparity, file_path
from multitask.data.split import Folder, check_class_ids, check_instance_ids


class Cityscapes(Folder):
    """One split of a data set in the Cityscapes layout: ``leftImg8bit``, ``gtFine``, ``disparity`` and ``camera``."""

    images = f"<city>/<city>_<seq>_<frame>{SUFFIX['image'][1]}"

    @classmethod
    def splits(cls, root: Path, kind: str = "image") -> list[str]:
        return sorted(path.name for path in (root / SUFFIX[kind][0]).glob("*") if path.is_dir())

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
