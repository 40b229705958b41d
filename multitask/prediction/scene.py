"""What is predicted of one picture, at the picture's own size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multitask.data.classes import ClassTable
from multitask.data.layout import Camera
from multitask.metrics import PredictedScene
from multitask.prediction.enlarge import Enlargement, Medians, Outline, coded, instance_codes


class SceneInstance(NamedTuple):
    """One predicted object.

    Attributes:
        id: its pixels' value in `Scene.instance_ids`, from 1; the surest is 1.
        class_name: such as ``car``.
        class_id: id of the class, as label files have it.
        confidence: 0 to 1.
        box: (left, top, right, bottom) px: columns left to right - 1, rows top to bottom - 1.
        area: number of its pixels.
        disparity: median of its pixels', px; None where disparity is not predicted.
    """

    id: int
    class_name: str
    class_id: int
    confidence: float
    box: tuple[int, int, int, int]
    area: int
    disparity: float | None

    def depth(self, camera: Camera) -> float | None:
        """Its distance in m; None where disparity is not predicted, or is 0 (see `Scene.depth`)."""
        return camera.baseline * camera.fx / self.disparity if self.disparity else None


@dataclass(frozen=True)
class Scene:
    """The predictions for one picture of H x W px. What the network was not trained for is None.

    Attributes:
        size: (H, W) px of the picture.
        class_ids: (H, W) uint8, as label files have them, such as 26 for a car of Cityscapes.
        instance_ids: (H, W) int32, `SceneInstance.id` of each pixel, 0 outside of all instances.
        instances: the instances, the surest first; empty where none are found or predicted.
        disparity: (H, W) float32 px of this picture, at least 0: as between two cameras like those of the training
            data, so that it says distances only up to a factor for pictures of any other camera.
        classes: the class table, which has the names and colours.
    """

    size: tuple[int, int]
    class_ids: np.ndarray | None
    instance_ids: np.ndarray | None
    instances: list[SceneInstance]
    disparity: np.ndarray | None
    classes: ClassTable

    def depth(self, camera: Camera) -> np.ndarray | None:
        """Distance, (H, W) float32 m, infinite where disparity is 0; None where disparity is not predicted.

        Args:
            camera: of this picture, at its size.
        """
        if self.disparity is None:
            return None
        with np.errstate(divide="ignore"):
            return np.float32(camera.baseline * camera.fx) / self.disparity

    def coded_instance_ids(self) -> np.ndarray | None:
        """Class and instance of each pixel in one number, (H, W) uint16: see `coded`."""
        if self.instance_ids is None or self.class_ids is None:
            return None
        return coded(self.instance_ids, self.class_ids, self.instance_codes(), self.classes)

    def instance_codes(self) -> list[int]:
        """Of each instance, the surest first, its number in `coded_instance_ids`."""
        return instance_codes([instance.class_id for instance in self.instances], self.classes)


def make_scene(predicted: PredictedScene, size: tuple[int, int], classes: ClassTable) -> Scene:
    """Brings a prediction to the size of the picture.

    Classes and instances take the nearest pixel; disparity is interpolated, and scaled with the width.

    Args:
        predicted: at the network's size.
        size: (H, W) px of the picture.
        classes: the class table of the prediction.
    """
    enlarged = Enlargement(predicted, size, classes)
    medians = Medians(enlarged.outlines)
    layers: list[list[np.ndarray]] = [[], [], []]
    for band in enlarged.bands():
        medians.add(band)
        for rows, layer in zip(layers, (band.class_ids, band.instance_ids, band.disparity), strict=True):
            if layer is not None:
                rows.append(layer)
    class_ids, instance_ids, disparity = (np.concatenate(rows) if rows else None for rows in layers)
    instances = scene_instances(enlarged.outlines, medians.of_each(), classes)
    return Scene(size, class_ids, instance_ids, instances, disparity, classes)


def scene_instances(
    outlines: Sequence[Outline], disparity: Sequence[float | None], classes: ClassTable
) -> list[SceneInstance]:
    """The instances of a picture, the surest first, with the median disparity of each."""
    names = {label.id: label.name for label in classes.evaluated}
    return [
        SceneInstance(index, names[one.class_id], one.class_id, one.confidence, one.box, one.area, median)
        for index, (one, median) in enumerate(zip(outlines, disparity, strict=True), start=1)
    ]
