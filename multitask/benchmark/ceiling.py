"""An upper bound for instances grouped from votes: their metrics with true classes and slightly noisy true vectors."""

import numpy as np

from multitask.data.classes import ClassTable
from multitask.data.sample import Sample
from multitask.evaluation.scenes import predicted_instances
from multitask.instances import Grouping, group
from multitask.metrics import PredictedScene, SceneMetrics
from multitask.synthetic import CLASSES, render
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance, centroid_offsets
from multitask.tasks.semantic import Semantic


def noisy_truth(
    class_ids: np.ndarray, instance_ids: np.ndarray, classes: ClassTable, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulates the predictions of a good network from labels.

    The noise of the vectors is normal, with a standard deviation of a tenth of the square root of the instance's area;
    5 % of the votes lie anywhere in the picture.

    Args:
        class_ids: (H, W).
        instance_ids: (H, W).
        classes: the class table of both.
        rng: generator of the noise.
    Returns:
        Train ids (H, W) uint8, 0 where there is no single instance; vectors (2, H, W) float64, px.
    """
    instance_ids = instance_ids.astype(np.int64)
    vectors, valid = centroid_offsets(instance_ids, classes)
    _, index, sizes = np.unique(instance_ids, return_inverse=True, return_counts=True)
    noise = rng.normal(size=vectors.shape) * 0.1 * np.sqrt(sizes)[index.reshape(instance_ids.shape)]
    height, width = instance_ids.shape
    anywhere = rng.uniform(0, 1, size=vectors.shape) * np.array([width, height])[:, None, None]
    wild = rng.random(instance_ids.shape) < 0.05
    vectors = np.where(wild, anywhere - np.indices(instance_ids.shape)[::-1], vectors + noise)
    return np.where(valid, classes.train_ids[class_ids], 0).astype(np.uint8), vectors


def ceiling(split: str, num_frames: int, size: tuple[int, int], grouping: Grouping | None = None) -> dict[str, float]:
    """Computes the metrics of instances grouped from `noisy_truth`, on frames of the embedded data set.

    Args:
        split: ``train``, ``val`` or ``test``.
        num_frames: number of frames, from the first one.
        size: (H, W) px.
        grouping: settings of the grouping of votes into instances.
    """
    metrics = SceneMetrics(CLASSES, Semantic.name, Instance.name, Depth.name)
    for index in range(num_frames):
        frame = render(0, split, index, size)
        train_ids, vectors = noisy_truth(frame.class_ids, frame.instance_ids, CLASSES, np.random.default_rng(index))
        found = group(train_ids, vectors, CLASSES, grouping=grouping)
        sample = Sample(str(index), frame.image, frame.class_ids, frame.instance_ids.astype(np.int32))
        metrics.update(sample, PredictedScene(instance_map=found.ids, instances=predicted_instances(found, CLASSES)))
    return metrics.compute()
