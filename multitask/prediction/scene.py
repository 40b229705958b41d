"""What is predicted of one picture, at the picture's own size."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from multitask.data.labels import EVALUATED, INSTANCE_BASE, LABELS
from multitask.data.layout import Camera
from multitask.data.transforms import resize_nearest
from multitask.metrics import PredictedScene


class SceneInstance(NamedTuple):
    """One predicted object.

    Attributes:
        id: its pixels' value in `Scene.instance_ids`, from 1; the surest is 1.
        class_name: such as ``car``.
        class_id: Cityscapes id of the class.
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
        class_ids: (H, W) uint8, Cityscapes ids such as 26 for a car (`multitask.data.labels.LABELS`).
        instance_ids: (H, W) int32, `SceneInstance.id` of each pixel, 0 outside of all instances.
        instances: the instances, the surest first; empty where none are found or predicted.
        disparity: (H, W) float32 px of this picture, at least 0: as between two cameras like those of the training
            data, so that it says distances only up to a factor for pictures of any other camera.
    """

    size: tuple[int, int]
    class_ids: np.ndarray | None
    instance_ids: np.ndarray | None
    instances: list[SceneInstance]
    disparity: np.ndarray | None

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
        """Class and instance of each pixel in the Cityscapes coding, (H, W) uint16: `instance_code`, or the class."""
        if self.instance_ids is None or self.class_ids is None:
            return None
        codes = np.array([0, *self.instance_codes()], dtype=np.uint16)
        return np.where(self.instance_ids > 0, codes[self.instance_ids], self.class_ids)

    def instance_codes(self) -> list[int]:
        """Of each instance, class id * 1000 + k: k counts the instances of a class from 0, the surest first."""
        counts = [0] * len(LABELS)
        codes = []
        for instance in self.instances:
            # Of more than a thousand, all others share the last number: the next one is another class's.
            codes.append(instance.class_id * INSTANCE_BASE + min(counts[instance.class_id], INSTANCE_BASE - 1))
            counts[instance.class_id] += 1
        return codes


_CLASS_IDS = np.array([label.id for label in EVALUATED], dtype=np.uint8)


def make_scene(predicted: PredictedScene, size: tuple[int, int]) -> Scene:
    """Brings a prediction to the size of the picture.

    Classes and instances take the nearest pixel; disparity is interpolated, and scaled with the width.

    Args:
        predicted: at the network's size.
        size: (H, W) px of the picture.
    """
    disparity = None
    if predicted.disparity is not None:
        factor = size[1] / predicted.disparity.shape[1]
        values = np.maximum(predicted.disparity.astype(np.float32), 0) * np.float32(factor)
        disparity = np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
    class_ids = instance_ids = None
    if predicted.train_ids is not None:
        class_ids = resize_nearest(_CLASS_IDS[predicted.train_ids], size)
    instances: list[SceneInstance] = []
    if predicted.instance_map is not None:
        instance_ids, instances = _instances(predicted, size, disparity)
    return Scene(size, class_ids, instance_ids, instances, disparity)


def _instances(
    predicted: PredictedScene, size: tuple[int, int], disparity: np.ndarray | None
) -> tuple[np.ndarray, list[SceneInstance]]:
    """The map of instances and their list, without those that have no pixel at this size."""
    assert predicted.instance_map is not None
    numbers = resize_nearest(predicted.instance_map, size)
    areas = np.bincount(numbers.ravel(), minlength=len(predicted.instances) + 1)
    places = np.flatnonzero(numbers)
    places = places[np.argsort(numbers.ravel()[places], kind="stable")]
    starts = np.cumsum(areas[1:]) - areas[1:]
    new = np.zeros(len(areas), dtype=np.int32)
    instances: list[SceneInstance] = []
    for one in sorted(predicted.instances, key=lambda instance: -instance.confidence):
        area = int(areas[one.number])
        if not area:
            continue
        own = places[starts[one.number - 1] :][:area]
        rows, columns = np.divmod(own, size[1])
        box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
        median = None if disparity is None else float(np.median(disparity.ravel()[own]))
        new[one.number] = len(instances) + 1
        name = LABELS[one.class_id].name
        instances.append(
            SceneInstance(len(instances) + 1, name, one.class_id, float(one.confidence), box, area, median)
        )
    return new[numbers], instances
