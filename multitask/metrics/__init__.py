"""Figures of merit: they stream over a data set, keep sums and small tables only, and merge across processes."""

from multitask.metrics.average_precision import AveragePrecision
from multitask.metrics.classes import ClassScores
from multitask.metrics.metres import MetricDepth
from multitask.metrics.panoptic import PanopticQuality
from multitask.metrics.pixels import ConfusionMatrix, Metric, VectorError
from multitask.metrics.prediction import PredictedInstance, PredictedScene
from multitask.metrics.results import ResultWriter, check_results_dir, write_results
from multitask.metrics.scene import PANOPTIC, SceneMetrics

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
    "ResultWriter",
    "SceneMetrics",
    "VectorError",
    "check_results_dir",
    "write_results",
]
