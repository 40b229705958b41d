"""All figures of a predicted scene, from one pass over its pixels."""

from multitask.data.labels import INSTANCE_BASE, LABELS
from multitask.data.sample import Sample
from multitask.metrics.average_precision import AveragePrecision
from multitask.metrics.classes import ClassScores
from multitask.metrics.matches import Distance
from multitask.metrics.metres import MetricDepth, instance_distances
from multitask.metrics.overlaps import Overlaps, class_of, count_overlaps
from multitask.metrics.panoptic import PanopticQuality
from multitask.metrics.prediction import PredictedScene, check_range, layers_of

PANOPTIC = "panoptic"
"""What the keys of panoptic quality begin with."""


class SceneMetrics:
    """Figures over a data set; what the layers at hand do not allow to compute is absent.

    Streams: after a frame only small tables are kept. Processes that each saw some of the frames `merge`.

    Args:
        classes: what the keys of IoU and iIoU begin with, before ``/``.
        instances: the same for average precision.
        depth: the same for errors in metres. Panoptic quality begins with ``panoptic``.
    """

    def __init__(self, classes: str, instances: str, depth: str) -> None:
        self.prefixes = (classes, instances, PANOPTIC, depth)
        self.layers: frozenset[str] | None = None
        self.classes = ClassScores()
        self.instances = AveragePrecision()
        self.panoptic = PanopticQuality()
        self.depth = MetricDepth()

    def update(self, sample: Sample, scene: PredictedScene) -> None:
        """Adds a frame.

        Args:
            sample: its labels (and camera); all frames have the same kinds.
            scene: its predictions, of the same size.
        Raises:
            ValueError: naming the frame, if a layer is missing that earlier frames had (or the other way round), is
                of another size, or holds values that it must not.
        """
        scene.check(sample.name, sample.image.shape[:2])
        check_range(sample.name, "true class ids", sample.class_ids, len(LABELS) - 1)
        check_range(sample.name, "true instance ids", sample.instance_ids, len(LABELS) * INSTANCE_BASE - 1)
        found = layers_of(sample, scene)
        if self.layers not in (None, found):
            raise ValueError(
                f"{sample.name}: needed the layers of the frames before, {_list(self.layers)}; found {_list(found)}"
            )
        overlaps = count_overlaps(sample.instance_ids, sample.class_ids, scene.train_ids, scene.instance_map)
        scene.check_numbers(sample.name, overlaps.numbers)
        if (unknown := int(class_of(overlaps.truth_ids).max(initial=0))) >= len(LABELS):
            raise ValueError(
                f"{sample.name}: true instance ids: needed class ids from 0 to {len(LABELS) - 1}, found {unknown}"
            )
        self.layers = found
        if self._has(*_CLASSES):
            self.classes.update(overlaps)
        if self._has(*_INSTANCES):
            self.instances.update(overlaps, scene.instances, _distances(sample, overlaps))
        if self._has(*_PANOPTIC):
            self.panoptic.update(overlaps, scene.instances)
        if self._has(*_DEPTH):
            assert scene.disparity is not None
            assert sample.disparity is not None
            assert sample.camera is not None
            self.depth.update(scene.disparity, sample.disparity, sample.camera, sample.class_ids)

    def merge(self, other: "SceneMetrics") -> None:
        """Adds what another process saw.

        Raises:
            ValueError: if its frames had other layers.
        """
        if other.layers is None:
            return
        if self.layers not in (None, other.layers):
            raise ValueError(f"merge: needed the same layers, {_list(self.layers)}; found {_list(other.layers)}")
        self.layers = other.layers
        self.classes.merge(other.classes)
        self.instances.merge(other.instances)
        self.panoptic.merge(other.panoptic)
        self.depth.merge(other.depth)

    def compute(self) -> dict[str, float]:
        """``<prefix>/<figure>``, fractions and m; see the single metrics for their names."""
        figures = (
            self.classes.compute(weighted=self._has("true instance_ids")),
            self.instances.compute(),
            self.panoptic.compute(),
            self.depth.compute(),
        )
        return {
            f"{prefix}/{key}": value
            for prefix, values in zip(self.prefixes, figures, strict=True)
            for key, value in values.items()
        }

    def _has(self, *layers: str) -> bool:
        return self.layers is not None and self.layers.issuperset(layers)


_CLASSES = ("true class_ids", "predicted train_ids")
_INSTANCES = ("true instance_ids", "predicted instance_map")
_PANOPTIC = (*_INSTANCES, "predicted train_ids")
_DEPTH = ("true disparity", "true camera", "predicted disparity")


def _distances(sample: Sample, overlaps: Overlaps) -> dict[int, Distance] | None:
    if sample.instance_ids is None or sample.disparity is None or sample.camera is None:
        return None
    return instance_distances(sample.instance_ids, overlaps.truth_ids, sample.disparity, sample.camera)


def _list(layers: frozenset[str] | None) -> str:
    return ", ".join(sorted(layers or ())) or "none"
