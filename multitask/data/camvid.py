"""CamVid with the 11 classes of SegNet's tutorial: classes only.

<root>/<split>/<name>.png          8-bit RGB
<root>/<split>annot/<name>.png     8-bit class ids
"""

from pathlib import Path

import numpy as np

from multitask.data.folder import Folder
from multitask.data.ids import read_class_ids
from multitask.data.reading import visible


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
        return read_class_ids(path, coded, self.table)


def _folder(split: str, kind: str) -> str:
    """Where one kind of file lies; of instances, disparity and cameras there are none."""
    return split if kind == "image" else f"{split}annot" if kind == "class_ids" else f"{split}{kind}"
