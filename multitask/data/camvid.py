"""CamVid with the 11 classes of SegNet's tutorial: classes only.

<root>/<split>/<name>.png          8-bit RGB
<root>/<split>annot/<name>.png     8-bit class, 11 for void
"""

from pathlib import Path

import numpy as np

from multitask.data.folder import Folder
from multitask.data.labels import ID
from multitask.data.reading import visible
from multitask.errors import UserError

CLASSES: dict[str, str] = {
    "sky": "sky",
    "building": "building",
    "pole": "pole",
    "road": "road",
    "pavement": "sidewalk",
    "tree": "vegetation",
    "sign symbol": "traffic sign",
    "fence": "fence",
    "car": "car",
    "pedestrian": "person",
    "bicyclist": "rider",  # the label holds the bicycle, too, but what is sought on it is the human
    "void": "unlabeled",
}
"""CamVid's classes in the order of their numbers -> those of Cityscapes."""

_CLASS_ID = np.array([ID[name] for name in CLASSES.values()], dtype=np.uint8)


class CamVid(Folder):
    """One split of CamVid: ``train``, ``val`` or ``test``."""

    images = "<name>.png"

    @classmethod
    def splits(cls, root: Path, kind: str = "image") -> list[str]:
        return [split for split in ("train", "val", "test") if (root / _folder(split, kind)).is_dir()]

    def folder(self, kind: str) -> Path:
        return self.root / _folder(self.split, kind)

    def path(self, kind: str, name: str) -> Path:
        return self.folder(kind) / f"{name}.png"

    def find(self, kind: str) -> dict[Path, str]:
        return {path: path.stem for path in visible(self.folder(kind), "*.png")}

    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        if (largest := int(coded.max())) >= len(CLASSES):
            raise UserError(f"{path}: needed classes from 0 to {len(CLASSES) - 1}, found {largest}")
        return _CLASS_ID[coded]


def _folder(split: str, kind: str) -> str:
    """Where one kind of file lies; of instances, disparity and cameras there are none."""
    return split if kind == "image" else f"{split}annot" if kind == "class_ids" else f"{split}{kind}"
