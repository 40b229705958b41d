"""Metrics that stream over a data set, keep only sums and small tables, and merge across processes."""

from multitask.metrics.average_precision import AveragePrecision
from multitask.metrics.iou import ClassScores
from multitask.metrics.metres import MetricDepth
from multitask.metrics.panoptic_quality import PanopticQuality
from multitask.metrics.pixels import ConfusionMatrix, Metric, VectorError
from multitask.metrics.predicted import PredictedInstance, PredictedScene
from multitask.metrics.scene_metrics import PANOPTIC, SceneMetrics

__all__ = [
    "PANOPTIC",
    "AveragePrecision",
    "ClassScores",
    "ConfusionMatrix",
    "Metric",
    "MetricDepth",
    "PanopticQuality",
    "PredictedInstance",
    "PredictedScene",
    "SceneMetrics",
    "VectorError",
]
