"""What the data path carries: a `Sample` of raw layers, then one `Target` for each task."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from multitask.data.layout import Camera


@dataclass(frozen=True)
class Sample:
    """The raw layers of one frame, all of one height and width. A layer that the data set lacks is None.

    Attributes:
        name: ``<city>_<seq>_<frame>``.
        image: (H, W, 3) uint8 RGB.
        class_ids: (H, W) uint8 class ids (not train ids).
        instance_ids: (H, W) int32, ``id * 1000 + k`` for an instance, else the bare class id.
        disparity: (H, W) float32 px at this resolution, NaN where there is no measurement.
        camera: intrinsics in px of this image.
    """

    name: str
    image: np.ndarray
    class_ids: np.ndarray | None = None
    instance_ids: np.ndarray | None = None
    disparity: np.ndarray | None = None
    camera: Camera | None = None


class Target(NamedTuple):
    """What a task learns from: of one frame, or of a batch with one more dimension in front.

    Attributes:
        value: the task's target; any finite number where it is not valid.
        valid: (H, W) bool, True where the pixel counts.
    """

    value: Tensor
    valid: Tensor
