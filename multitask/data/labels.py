"""The Cityscapes class table: ids, train ids, categories, colours. The only place that knows them.

Facts from the Cityscapes label definitions (Cordts et al., CVPR 2016).
"""

from dataclasses import dataclass

import numpy as np

IGNORE = 255
"""Train id of every pixel that neither trains nor counts."""

INSTANCE_BASE = 1000
"""instanceIds of a counted instance are ``id * 1000 + k``; smaller values are bare class ids."""


@dataclass(frozen=True)
class Label:
    """One row of the class table.

    Attributes:
        name: the class's name.
        id: value in ``*_labelIds.png``.
        train_id: 0 to 18 for the evaluated classes, else ``IGNORE``.
        category: the category's name.
        has_instances: whether single instances are annotated.
        color: RGB, 0 to 255.
    """

    name: str
    id: int
    train_id: int
    category: str
    has_instances: bool
    color: tuple[int, int, int]

    @property
    def evaluated(self) -> bool:
        return self.train_id != IGNORE


def _label(name: str, id: int, train_id: int, category: str, has_instances: int, color: tuple[int, int, int]) -> Label:
    return Label(name, id, train_id, category, bool(has_instances), color)


LABELS: tuple[Label, ...] = (
    _label("unlabeled", 0, IGNORE, "void", 0, (0, 0, 0)),
    _label("ego vehicle", 1, IGNORE, "void", 0, (0, 0, 0)),
    _label("rectification border", 2, IGNORE, "void", 0, (0, 0, 0)),
    _label("out of roi", 3, IGNORE, "void", 0, (0, 0, 0)),
    _label("static", 4, IGNORE, "void", 0, (0, 0, 0)),
    _label("dynamic", 5, IGNORE, "void", 0, (111, 74, 0)),
    _label("ground", 6, IGNORE, "void", 0, (81, 0, 81)),
    _label("road", 7, 0, "flat", 0, (128, 64, 128)),
    _label("sidewalk", 8, 1, "flat", 0, (244, 35, 232)),
    _label("parking", 9, IGNORE, "flat", 0, (250, 170, 160)),
    _label("rail track", 10, IGNORE, "flat", 0, (230, 150, 140)),
    _label("building", 11, 2, "construction", 0, (70, 70, 70)),
    _label("wall", 12, 3, "construction", 0, (102, 102, 156)),
    _label("fence", 13, 4, "construction", 0, (190, 153, 153)),
    _label("guard rail", 14, IGNORE, "construction", 0, (180, 165, 180)),
    _label("bridge", 15, IGNORE, "construction", 0, (150, 100, 100)),
    _label("tunnel", 16, IGNORE, "construction", 0, (150, 120, 90)),
    _label("pole", 17, 5, "object", 0, (153, 153, 153)),
    _label("polegroup", 18, IGNORE, "object", 0, (153, 153, 153)),
    _label("traffic light", 19, 6, "object", 0, (250, 170, 30)),
    _label("traffic sign", 20, 7, "object", 0, (220, 220, 0)),
    _label("vegetation", 21, 8, "nature", 0, (107, 142, 35)),
    _label("terrain", 22, 9, "nature", 0, (152, 251, 152)),
    _label("sky", 23, 10, "sky", 0, (70, 130, 180)),
    _label("person", 24, 11, "human", 1, (220, 20, 60)),
    _label("rider", 25, 12, "human", 1, (255, 0, 0)),
    _label("car", 26, 13, "vehicle", 1, (0, 0, 142)),
    _label("truck", 27, 14, "vehicle", 1, (0, 0, 70)),
    _label("bus", 28, 15, "vehicle", 1, (0, 60, 100)),
    _label("caravan", 29, IGNORE, "vehicle", 1, (0, 0, 90)),
    _label("trailer", 30, IGNORE, "vehicle", 1, (0, 0, 110)),
    _label("train", 31, 16, "vehicle", 1, (0, 80, 100)),
    _label("motorcycle", 32, 17, "vehicle", 1, (0, 0, 230)),
    _label("bicycle", 33, 18, "vehicle", 1, (119, 11, 32)),
)
"""Every class that a label file may hold, ``LABELS[i].id == i``. (Licence plates, id -1, are never written.)"""

EVALUATED: tuple[Label, ...] = tuple(sorted((label for label in LABELS if label.evaluated), key=lambda x: x.train_id))
"""The 19 evaluated classes in the order of their train ids."""

CLASS_NAMES: tuple[str, ...] = tuple(label.name for label in EVALUATED)

ID: dict[str, int] = {label.name: label.id for label in LABELS}
"""Class id by name."""

UNSEEN_IDS: tuple[int, ...] = (ID["ego vehicle"], ID["rectification border"], ID["out of roi"])
"""Pixels without a view of the scene: ignored by every task."""

SKY_ID: int = ID["sky"]


def _table(values: list[int]) -> np.ndarray:
    return np.array(values + [IGNORE] * (256 - len(values)), dtype=np.uint8)


TRAIN_ID: np.ndarray = _table([label.train_id for label in LABELS])
"""(256,) uint8: train id by class id; ``IGNORE`` for what is not evaluated."""

HAS_INSTANCES: np.ndarray = np.array([label.has_instances for label in LABELS])
"""(34,) bool by class id: single instances are annotated (ids 24-33)."""

COUNTED_ID: np.ndarray = np.array([label.has_instances and label.evaluated for label in LABELS])
"""(34,) bool by class id: its instances are evaluated (ids 24-28 and 31-33)."""

TRAIN_COLORS: np.ndarray = np.zeros((256, 3), dtype=np.uint8)
"""(256, 3) uint8: colour by train id; ``IGNORE`` is black."""
TRAIN_COLORS[: len(EVALUATED)] = [label.color for label in EVALUATED]
