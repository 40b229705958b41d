"""Predictions for one picture at the picture's original size."""

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
        id: value of its pixels in `Scene.instance_ids`, from 1, by descending confidence.
        class_name: name of the class, such as ``car``.
        class_id: id of the class, as in label files.
        confidence: 0 to 1.
        box: (left, top, right, bottom) px: columns left to right - 1, rows top to bottom - 1.
        area: number of its pixels.
        disparity: median disparity of its pixels, px; None where disparity is not predicted.
    """

    id: int
    class_name: str
    class_id: int
    confidence: float
    box: tuple[int, int, int, int]
    area: int
    disparity: float | None

    def depth(self, camera: Camera) -> float | None:
        """Returns its distance in m; None where disparity is not predicted, or is 0 (see `Scene.depth`)."""
        return camera.baseline * camera.fx / self.disparity if self.disparity else None


@dataclass(frozen=True)
class Scene:
    """The predictions for one picture of H x W px. Fields of tasks that the network was not trained on are None.

    Attributes:
        size: (H, W) px of the picture.
        class_ids: (H, W) uint8, coded as in label files, such as 26 for a car in Cityscapes.
        instance_ids: (H, W) int32, `SceneInstance.id` of each pixel, 0 outside of all instances.
        instances: the instances, by descending confidence; empty where none are found or predicted.
        disparity: (H, W) float32 px of this picture, at least 0, for a stereo camera like that of the training data;
            for pictures of any other camera it gives distances only up to a factor.
        classes: the class table, with names and colours.
    """

    size: tuple[int, int]
    class_ids: np.ndarray | None
    instance_ids: np.ndarray | None
    instances: list[SceneInstance]
    disparity: np.ndarray | None
    classes: ClassTable

    def depth(self, camera: Camera) -> np.ndarray | None:
        """Returns distances, (H, W) float32 m, infinite where disparity is 0; None where disparity is not predicted.

        Args:
            camera: camera of this picture, in px of its size.
        """
        if self.disparity is None:
            return None
        with np.errstate(divide="ignore"):
            return np.float32(camera.baseline * camera.fx) / self.disparity

    def coded_instance_ids(self) -> np.ndarray | None:
        """Returns class and instance of each pixel in one number, (H, W) uint16: see `coded`."""
        if self.instance_ids is None or self.class_ids is None:
            return None
        return coded(self.instance_ids, self.class_ids, self.instance_codes(), self.classes)

    def instance_codes(self) -> list[int]:
        """Returns the value of each instance in `coded_instance_ids`, in the order of `instances`."""
        return instance_codes([instance.class_id for instance in self.instances], self.classes)


def make_scene(predicted: PredictedScene, size: tuple[int, int], classes: ClassTable) -> Scene:
    """Enlarges a prediction to the size of the picture.

    Classes and instances take the nearest pixel; disparity is interpolated, and scaled with the width.

    Args:
        predicted: the prediction at the network's size.
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
    """Returns the instances of a picture, by descending confidence, with the median disparity of each."""
    names = {label.id: label.name for label in classes.evaluated}
    return [
        SceneInstance(index, names[one.class_id], one.class_id, one.confidence, one.box, one.area, median)
        for index, (one, median) in enumerate(zip(outlines, disparity, strict=True), start=1)
    ]
