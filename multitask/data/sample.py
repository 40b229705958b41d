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
        class_ids: (H, W) uint8 class ids: places in the class table, neither values in files nor train ids.
        instance_ids: (H, W) int32, ``class id * 1000 + k`` for an instance, else the bare class id.
        disparity: (H, W) float32 px at this resolution, NaN where there is no measurement.
        camera: intrinsics in px of this image.
        measured: whether the frame has a measured disparity, if only outside of this part of it. What is cut out of a
            sample keeps it; of a new one it follows from the disparity, and is never None.
    """

    name: str
    image: np.ndarray
    class_ids: np.ndarray | None = None
    instance_ids: np.ndarray | None = None
    disparity: np.ndarray | None = None
    camera: Camera | None = None
    measured: bool | None = None

    def __post_init__(self) -> None:
        if self.measured is None:
            found = self.disparity is not None and bool(np.isfinite(self.disparity).any())
            object.__setattr__(self, "measured", found)  # once, on a class that is frozen for all others

    @property
    def nbytes(self) -> int:
        """Bytes of the layers."""
        layers = (self.image, self.class_ids, self.instance_ids, self.disparity)
        return sum(layer.nbytes for layer in layers if layer is not None)


class Target(NamedTuple):
    """What a task learns from: of one frame, or of a batch with one more dimension in front.

    Attributes:
        value: the task's target; any finite number where it is not valid.
        valid: (H, W) bool, True where the pixel counts.
    """

    value: Tensor
    valid: Tensor
