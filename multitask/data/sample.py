"""The two records of the data path: a `Sample` of raw layers, and the `Target` of each task."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from multitask.data.layout import Camera


@dataclass(frozen=True)
class Sample:
    """The raw layers of one frame, all of equal height and width. A layer that the data set lacks is None.

    Attributes:
        name: ``<city>_<seq>_<frame>``.
        image: (H, W, 3) uint8 RGB.
        class_ids: (H, W) uint8 indices into the class table, neither values in files nor train ids.
        instance_ids: (H, W) int32, ``class id * 1000 + k`` for an instance, else the bare class id.
        disparity: (H, W) float32 px at this resolution, NaN where there is no measurement.
        camera: intrinsics in px of this image.
        measured: whether the original frame has a measured disparity anywhere, possibly only outside of this crop.
            Crops inherit it; for a new sample it is computed from the disparity. It is None only as an argument.
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
            object.__setattr__(self, "measured", found)  # the dataclass is frozen

    @property
    def nbytes(self) -> int:
        """Bytes of the layers."""
        layers = (self.image, self.class_ids, self.instance_ids, self.disparity)
        return sum(layer.nbytes for layer in layers if layer is not None)


class Target(NamedTuple):
    """Target of one task, for a frame, or for a batch with one more dimension in front.

    Attributes:
        value: the values to predict; arbitrary but finite where not valid.
        valid: (H, W) bool, True where the pixel counts.
    """

    value: Tensor
    valid: Tensor
