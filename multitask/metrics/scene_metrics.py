"""All metrics of predicted scenes, computed in one pass over each scene's pixels."""

from multitask.data.classes import INSTANCE_BASE, ClassTable, class_of
from multitask.data.sample import Sample
from multitask.errors import UserError
from multitask.metrics.average_precision import AveragePrecision
from multitask.metrics.iou import ClassScores
from multitask.metrics.matches import Distance
from multitask.metrics.metres import MetricDepth, instance_distances
from multitask.metrics.overlaps import Overlaps, count_overlaps
from multitask.metrics.panoptic_quality import PanopticQuality
from multitask.metrics.predicted import PredictedScene, check_range, layers_of

PANOPTIC = "panoptic"
"""Prefix of the keys of panoptic quality."""


class _Sums:
    """Accumulated metrics of the frames that have the same layers."""

    def __init__(self, table: ClassTable) -> None:
        self.classes = ClassScores(table)
        self.instances = AveragePrecision(table)
        self.panoptic = PanopticQuality(table)
        self.depth = MetricDepth(table)

    def merge(self, other: "_Sums") -> None:
        self.classes.merge(other.classes)
        self.instances.merge(other.instances)
        self.panoptic.merge(other.panoptic)
        self.depth.merge(other.depth)


class SceneMetrics:
    """Metrics over a data set, each over the frames that have its layers; without such frames it is absent.

    Only small tables are kept of each frame. Instances of several processes are combined by `merge`.

    Args:
        table: the class table of labels and predictions.
        classes: prefix of the keys of IoU and iIoU, before ``/``.
        instances: prefix for average precision.
        depth: prefix for errors in metres. The prefix of panoptic quality is ``panoptic``.
    """

    def __init__(self, table: ClassTable, classes: str, instances: str, depth: str) -> None:
        self.table = table
        self.prefixes = (classes, instances, PANOPTIC, depth)
        self.sums: dict[frozenset[str], _Sums] = {}

    def update(self, sample: Sample, scene: PredictedScene) -> None:
        """Adds a frame.

        Args:
            sample: labels and camera of the frame; frames may differ in which of them they have.
            scene: predictions of the same size; all frames must have the same predicted layers.
        Raises:
            UserError: naming the frame, if its labels hold invalid values, or predicted disparity is not finite.
            ValueError: naming the frame, if its predicted layers differ from those of earlier frames, or a layer has
                another size or invalid values.
        """
        scene.check(sample.name, sample.image.shape[:2], self.table)
        most = len(self.table.labels)
        check_range(sample.name, "true class ids", sample.class_ids, most - 1, UserError)
        highest = most * INSTANCE_BASE - 1
        check_range(sample.name, "true instance ids", sample.instance_ids, highest, UserError)
        layers = layers_of(sample, scene)
        self._check_predicted(sample.name, layers)
        overlaps = count_overlaps(sample.instance_ids, sample.class_ids, scene.train_ids, scene.instance_map)
        scene.check_numbers(sample.name, overlaps.numbers)
        if (unknown := int(class_of(overlaps.truth_ids).max(initial=0))) >= most:
            raise UserError(f"{sample.name}: true instance ids: needed class ids from 0 to {most - 1}, found {unknown}")
        sums = self.sums.setdefault(layers, _Sums(self.table))
        if layers.issuperset(_CLASSES):
            sums.classes.update(overlaps)
        if layers.issuperset(_INSTANCES):
            sums.instances.update(overlaps, scene.instances, _distances(sample, overlaps, self.table))
        if layers.issuperset(_PANOPTIC):
            sums.panoptic.update(overlaps, scene.instances)
        if layers.issuperset(_DEPTH):
            assert scene.disparity is not None
            assert sample.disparity is not None
            assert sample.camera is not None
            sums.depth.update(scene.disparity, sample.disparity, sample.camera, sample.class_ids)

    def merge(self, other: "SceneMetrics") -> None:
        """Adds the frames of another process.

        Raises:
            ValueError: if its frames have other predicted layers.
        """
        for layers, sums in other.sums.items():
            self._check_predicted("merge", layers)
            self.sums.setdefault(layers, _Sums(self.table)).merge(sums)

    def compute(self) -> dict[str, float]:
        """Returns ``<prefix>/<metric>``, fractions and m; see the single metrics for their names."""
        weighted = self._of(*_CLASSES, "true instance_ids").classes.compute(weighted=True)
        instances, near = self._of(*_INSTANCES).instances, self._of(*_INSTANCES, *_DISTANCES).instances
        if len(near.frames) == len(instances.frames):
            near = AveragePrecision(self.table)  # the metrics of all frames are the same
        figures = (
            weighted | self._of(*_CLASSES).classes.compute(weighted=False),
            near.compute() | instances.compute(),
            self._of().panoptic.compute(),
            self._of().depth.compute(),
        )
        return {
            f"{prefix}/{key}": value
            for prefix, values in zip(self.prefixes, figures, strict=True)
            for key, value in values.items()
        }

    def _of(self, *layers: str) -> _Sums:
        """Returns the accumulated metrics of all frames that have these layers."""
        total = _Sums(self.table)
        for found, sums in self.sums.items():
            if found.issuperset(layers):
                total.merge(sums)
        return total

    def _check_predicted(self, name: str, layers: frozenset[str]) -> None:
        found = _predicted(layers)
        for before in self.sums:
            if found != (needed := _predicted(before)):
                raise ValueError(f"{name}: needed the layers of the frames before, {needed}; found {found}")


_DISTANCES = ("true disparity", "true camera")
_CLASSES = ("true class_ids", "predicted train_ids")
_INSTANCES = ("true instance_ids", "predicted instance_map")
_PANOPTIC = (*_INSTANCES, "predicted train_ids")
_DEPTH = ("true disparity", "true camera", "predicted disparity")


def _distances(sample: Sample, overlaps: Overlaps, classes: ClassTable) -> dict[int, Distance] | None:
    if sample.instance_ids is None or sample.disparity is None or sample.camera is None:
        return None
    return instance_distances(sample.instance_ids, overlaps.truth_ids, sample.disparity, sample.camera, classes)


def _predicted(layers: frozenset[str]) -> str:
    return ", ".join(sorted(layer for layer in layers if layer.startswith("predicted"))) or "nothing predicted"
