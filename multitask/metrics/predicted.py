"""Predictions for one frame, in the form that metrics and result files use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multitask.data.classes import ClassTable
from multitask.data.sample import Sample
from multitask.errors import UserError

MAX_INSTANCE_NUMBER = (1 << 24) - 1


class PredictedInstance(NamedTuple):
    """One predicted instance.

    Attributes:
        number: value of its pixels in the instance map, from 1. An instance without pixels is ignored; a number given
            twice means two predictions with the same pixels.
        class_id: class id (index into the class table) of an evaluated class with instances.
        confidence: finite score; higher is more confident.
    """

    number: int
    class_id: int
    confidence: float


@dataclass(frozen=True)
class PredictedScene:
    """The predictions for one frame, all of its height and width; None for layers that are not predicted.

    Attributes:
        train_ids: (H, W) int, predicted train ids.
        instance_map: (H, W) int, numbers of instances, 0 outside of all.
        instances: the instances of the map, in any order.
        disparity: (H, W) float, px at this resolution.
    """

    train_ids: np.ndarray | None = None
    instance_map: np.ndarray | None = None
    instances: Sequence[PredictedInstance] = ()
    disparity: np.ndarray | None = None

    def check(self, name: str, size: tuple[int, ...], classes: ClassTable) -> None:
        """Checks the layers and the list of instances.

        Args:
            name: name of the frame, for errors.
            size: (H, W) px of the frame.
            classes: the class table.
        Raises:
            UserError: naming the frame, if its disparity is not finite, as a network may predict.
            ValueError: naming the frame, what was needed and what was found, for any other fault.
        """
        for kind, layer in (
            ("train ids", self.train_ids),
            ("instance map", self.instance_map),
            ("disparity", self.disparity),
        ):
            if layer is not None and layer.shape != tuple(size):
                raise ValueError(
                    f"{name}: predicted {kind}: needed the truth's size {tuple(size)}, found {layer.shape}"
                )
        check_range(name, "predicted train ids", self.train_ids, len(classes.names) - 1)
        check_range(name, "numbers in the instance map", self.instance_map, MAX_INSTANCE_NUMBER)
        if self.disparity is not None and (wrong := int((~np.isfinite(self.disparity)).sum())):
            raise UserError(f"{name}: predicted disparity: needed finite px, found {wrong} that are not")
        for instance in self.instances:
            _check_instance(name, instance, classes)

    def check_numbers(self, name: str, numbers: np.ndarray) -> None:
        """Checks that every number (N,) of the map except 0 is in the list of instances."""
        unknown = set(numbers.tolist()) - {0, *(instance.number for instance in self.instances)}
        if unknown:
            raise ValueError(
                f"{name}: instance map: needed numbers of the {len(self.instances)} instances given, "
                f"found {sorted(unknown)[:5]} beside them"
            )


def check_range(
    name: str, what: str, layer: np.ndarray | None, highest: int, error: type[ValueError] = ValueError
) -> None:
    """Checks that a layer, unless None, holds integers from 0 to ``highest``; otherwise raises ``error``."""
    if layer is None or not layer.size:
        return
    if not np.issubdtype(layer.dtype, np.integer):
        raise error(f"{name}: {what}: needed whole numbers, found {layer.dtype}")
    for found in (int(layer.min()), int(layer.max())):
        if not 0 <= found <= highest:
            raise error(f"{name}: {what}: needed 0 to {highest}, found {found}")


def _check_instance(name: str, instance: PredictedInstance, classes: ClassTable) -> None:
    allowed = np.flatnonzero(classes.counted).tolist()
    if instance.class_id not in allowed:
        raise ValueError(f"{name}: predicted instance: needed a class id of {allowed}, found {instance.class_id}")
    if not 1 <= instance.number <= MAX_INSTANCE_NUMBER:
        raise ValueError(f"{name}: predicted instance: needed a number from 1, found {instance.number}")
    if not np.isfinite(instance.confidence):
        raise ValueError(f"{name}: predicted instance: needed a finite confidence, found {instance.confidence}")


def layers_of(sample: Sample, scene: PredictedScene) -> frozenset[str]:
    """Returns the names of the ground truth and predicted layers that a frame has."""
    true = {kind: getattr(sample, kind) for kind in ("class_ids", "instance_ids", "disparity", "camera")}
    predicted = {kind: getattr(scene, kind) for kind in ("train_ids", "instance_map", "disparity")}
    named = {f"true {kind}": layer for kind, layer in true.items()}
    named |= {f"predicted {kind}": layer for kind, layer in predicted.items()}
    return frozenset(kind for kind, layer in named.items() if layer is not None)
