"""Enlargement of a prediction to the size of its picture, band by band, since the result might not fit into memory."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from multitask.data.classes import INSTANCE_BASE, ClassTable
from multitask.data.transforms import resize_nearest
from multitask.metrics import PredictedInstance, PredictedScene

_BAND = 2**22
"""Size of a band in px."""


class Band(NamedTuple):
    """Consecutive rows of a picture's predictions, coded as in `Scene`.

    Attributes:
        top: index of the first row.
        class_ids: (rows, W) uint8, coded as in label files.
        instance_ids: (rows, W) int32.
        disparity: (rows, W) float32 px.
    """

    top: int
    class_ids: np.ndarray | None
    instance_ids: np.ndarray | None
    disparity: np.ndarray | None


class Outline(NamedTuple):
    """Class, confidence and place of an instance in the picture, with the fields of `SceneInstance`."""

    class_id: int
    confidence: float
    box: tuple[int, int, int, int]
    area: int


class Enlargement:
    """A prediction at the network's size, enlarged to the picture's.

    Classes and instances take the nearest pixel; disparity is interpolated, and scaled with the width.

    Args:
        predicted: the prediction at the network's size.
        size: (H, W) px of the picture.
        classes: the class table of the prediction.

    Attributes:
        size: (H, W) px of the picture.
        classes: the class table.
        outlines: outlines of the instances with a pixel in the picture, by descending confidence; that at index k has
            the id k + 1.
    """

    def __init__(self, predicted: PredictedScene, size: tuple[int, int], classes: ClassTable) -> None:
        self.size = size
        self.classes = classes
        self.outlines: list[Outline] = []
        layers = predicted.train_ids, predicted.instance_map, predicted.disparity
        shape = next(layer.shape for layer in layers if layer is not None)
        # Index of the network's row shown by each of the picture's rows, and likewise for columns.
        self._nearest = [
            resize_nearest(np.arange(old)[:, None], (new, 1))[:, 0] for old, new in zip(shape, size, strict=True)
        ]
        self._class_ids = None
        if predicted.train_ids is not None:
            self._class_ids = classes.evaluated_label_ids[predicted.train_ids]
        self._instance_ids = self._disparity = None
        if predicted.instance_map is not None:
            self._instance_ids = self._ordered(predicted.instance_map, predicted.instances)
        if predicted.disparity is not None:
            factor = np.float32(size[1] / shape[1])
            self._disparity = Image.fromarray(np.maximum(predicted.disparity.astype(np.float32), 0) * factor)

    def bands(self) -> Iterator[Band]:
        """Yields the predictions of the entire picture from top to bottom."""
        height, width = self.size
        rows = max(1, _BAND // width)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            yield Band(
                top,
                self._picked(self._class_ids, top, bottom),
                self._picked(self._instance_ids, top, bottom),
                self._interpolated(top, bottom),
            )

    def _picked(self, layer: np.ndarray | None, top: int, bottom: int) -> np.ndarray | None:
        if layer is None:
            return None
        rows, columns = self._nearest[0][top:bottom], self._nearest[1]
        return layer[rows[0] : rows[-1] + 1][:, columns][rows - rows[0]]

    def _interpolated(self, top: int, bottom: int) -> np.ndarray | None:
        if self._disparity is None:
            return None
        height, width = self.size
        scale = self._disparity.height / height
        box = 0, top * scale, self._disparity.width, min(bottom * scale, self._disparity.height)
        return np.asarray(self._disparity.resize((width, bottom - top), Image.Resampling.BILINEAR, box))

    def _ordered(self, numbers: np.ndarray, instances: Sequence[PredictedInstance]) -> np.ndarray:
        """Returns the map of instances at the network's size, renumbered by confidence, and fills `outlines`."""
        # Number of the picture's pixels that show each of the network's, which may be 0 if the picture is smaller.
        counts = np.outer(*(np.bincount(at, minlength=n) for at, n in zip(self._nearest, numbers.shape, strict=True)))
        shown = np.where(counts > 0, numbers, 0).ravel()
        places = np.flatnonzero(shown)
        places = places[np.argsort(shown[places], kind="stable")]
        ends = np.cumsum(np.bincount(shown[places], minlength=len(instances) + 1))
        new = np.zeros(len(ends), dtype=np.int32)
        for one in sorted(instances, key=lambda instance: -instance.confidence):
            own = places[ends[one.number - 1] : ends[one.number]]
            if len(own):
                (top, bottom), (left, right) = (
                    (np.searchsorted(at, found.min(), "left"), np.searchsorted(at, found.max(), "right"))
                    for at, found in zip(self._nearest, np.divmod(own, numbers.shape[1]), strict=True)
                )
                area = int(counts.ravel()[own].sum())
                box = int(left), int(top), int(right), int(bottom)
                self.outlines.append(
                    Outline(int(self.classes.label_ids[one.class_id]), float(one.confidence), box, area)
                )
                new[one.number] = len(self.outlines)
        return new[numbers]


class Medians:
    """Exact median disparity of each instance; keeps the value of every pixel until all bands are added."""

    def __init__(self, outlines: Sequence[Outline]) -> None:
        self._ends = np.cumsum([0, *(outline.area for outline in outlines)])
        self._next = self._ends[:-1].copy()
        self._values = np.empty(0, dtype=np.float32)

    def add(self, band: Band) -> None:
        """Adds the values of a band."""
        if band.instance_ids is None or band.disparity is None:
            return
        if not len(self._values):
            self._values = np.empty(self._ends[-1], dtype=np.float32)
        ids = band.instance_ids.ravel()
        places = np.flatnonzero(ids)
        places = places[np.argsort(ids[places], kind="stable")]
        values = band.disparity.ravel()[places]
        start = 0
        for index, count in enumerate(np.bincount(ids[places], minlength=len(self._ends))[1:].tolist()):
            first = self._next[index]
            self._values[first : first + count] = values[start : start + count]
            self._next[index] += count
            start += count

    def of_each(self) -> list[float | None]:
        """Returns the medians in the order of the outlines, px; None where disparity is not predicted."""
        if not len(self._values):
            return [None] * len(self._next)
        parts = zip(self._ends[:-1], self._ends[1:], strict=True)
        return [float(np.median(self._values[start:end], overwrite_input=True)) for start, end in parts]


def instance_codes(class_ids: Sequence[int], classes: ClassTable) -> list[int]:
    """Returns the code of each instance in result files, different from the codes of all other pixels.

    It is ``id * 1000 + k``, as in Cityscapes, where k counts the instances of a class from 0. Where that would not
    fit 16 bits, or the id 0 has instances, it is ``id * 256 + k`` with k from 1.

    Args:
        class_ids: class ids of the instances, as in label files.
        classes: the class table.
    """
    base, counts = classes.code_base, [0] * 256
    first = 0 if base == INSTANCE_BASE else 1
    codes = []
    for class_id in class_ids:
        # Instances beyond the last number share it, since the next number belongs to another class.
        codes.append(class_id * base + min(first + counts[class_id], base - 1))
        counts[class_id] += 1
    return codes


def coded(instance_ids: np.ndarray, class_ids: np.ndarray, codes: Sequence[int], classes: ClassTable) -> np.ndarray:
    """Returns uint16 codes: for pixels of instances see `instance_codes`, elsewhere the class id, or 256 times that."""
    elsewhere = class_ids if classes.code_base == INSTANCE_BASE else class_ids.astype(np.uint16) * np.uint16(256)
    return np.where(instance_ids > 0, np.array([0, *codes], dtype=np.uint16)[instance_ids], elsewhere)
