"""Average precision of instances by the official definition of Cityscapes, including its quirks."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from multitask.data.classes import ClassTable
from multitask.metrics.matches import Distance, Matches, join, match_frame, of_class
from multitask.metrics.overlaps import Overlaps
from multitask.metrics.predicted import PredictedInstance

OVERLAPS: np.ndarray = np.arange(0.5, 1.0, 0.05)
"""IoU thresholds, which a match must exceed; computed as in the official tool, to the last bit."""


class Scope(NamedTuple):
    """Condition for ground truth instances to count; others are ignored, whether found or missed.

    Attributes:
        min_pixels: smallest size, px.
        max_distance: greatest median distance, m; None: no limit, and distances need not be known.
        min_density: smallest share of pixels with a disparity; below it the distance is not trusted.
    """

    min_pixels: int
    max_distance: float | None = None
    min_density: float = 0.0


SCOPES: dict[str, Scope] = {"": Scope(100), "100m": Scope(1000, 100, 0.5), "50m": Scope(1000, 50, 0.5)}
"""The official scopes, by the suffix of the metric's name."""


class AveragePrecision:
    """Average precision over a data set: AP, AP50, and both within 100 m and 50 m where distances are known.

    Args:
        classes: the class table.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.frames: list[Matches] = []

    def update(
        self,
        overlaps: Overlaps,
        instances: Sequence[PredictedInstance],
        distances: Mapping[int, Distance] | None = None,
    ) -> None:
        """Adds a frame.

        Args:
            overlaps: overlaps of ground truth instance ids and numbers of predicted instances.
            instances: the predicted instances.
            distances: distance of every ground truth instance and group by instance id, if known.
        """
        self.frames.append(match_frame(overlaps, instances, self.classes, distances))

    def merge(self, other: "AveragePrecision") -> None:
        """Adds the frames of another process."""
        self.frames += other.frames

    def compute(self) -> dict[str, float]:
        """Returns ``ap``, ``ap50``, ``ap100m``, ``ap50m`` and ``ap/<class>`` etc., only for classes that occur."""
        if not self.frames:
            return {}
        matches = join(self.frames)
        figures = {}
        for suffix, scope in SCOPES.items():
            if scope.max_distance is not None and np.isnan(matches.median).any():
                continue
            by_class = {
                label.name: curve(of_class(matches, class_id), scope)
                for class_id, label in enumerate(self.classes.labels)
                if self.classes.counted[class_id]
            }
            table = {name: values for name, values in by_class.items() if not np.isnan(values).any()}
            if not table:
                continue
            figures[f"ap{suffix}"] = float(np.mean(list(table.values())))
            figures |= {f"ap{suffix}/{name}": float(values.mean()) for name, values in table.items()}
            if not suffix:
                figures["ap50"] = float(np.mean([values[0] for values in table.values()]))
                figures |= {f"ap50/{name}": float(values[0]) for name, values in table.items()}
        return figures


def curve(matches: Matches, scope: Scope) -> np.ndarray:
    """Returns the AP of one class at each of `OVERLAPS`, (10,); NaN if no ground truth instance counts."""
    near = np.ones(len(matches.true_pixels), dtype=bool)
    if scope.max_distance is not None:
        near = (matches.median <= scope.max_distance) & (matches.density >= scope.min_density)
    wanted = near & (matches.true_pixels >= scope.min_pixels)
    counted = wanted & matches.single
    if not counted.any():
        return np.full(len(OVERLAPS), math.nan)
    # A group that is also too small or too far is counted twice, as the official tool does.
    excuse = ~matches.single + (~wanted).astype(np.int64)
    ignored = matches.void + np.bincount(
        matches.pair_predicted,
        weights=matches.pair_pixels * excuse[matches.pair_true],
        minlength=len(matches.pixels),
    )
    excused = ignored / matches.pixels
    union = matches.true_pixels[matches.pair_true] + matches.pixels[matches.pair_predicted] - matches.pair_pixels
    iou = matches.pair_pixels / union
    return np.array([_at_overlap(matches, counted, excused, iou, overlap) for overlap in OVERLAPS])


def _at_overlap(
    matches: Matches, counted: np.ndarray, excused: np.ndarray, iou: np.ndarray, overlap: np.floating
) -> float:
    """Returns the AP of one class at one threshold.

    Args:
        matches: matches of the class.
        counted: (T,) bool, whether a ground truth instance counts.
        excused: (P,) share of a prediction's pixels on ignored ground truth.
        iou: (M,) IoU of the pairs.
        overlap: IoU threshold, at least 0.5.
    """
    hits = iou > overlap
    claimed = np.zeros(len(matches.pixels), dtype=bool)
    claimed[matches.pair_predicted[hits]] = True
    wrong = matches.confidence[~claimed & (excused <= overlap)]
    hits &= counted[matches.pair_true]
    # The most confident hit on an instance is a true positive, the others are duplicates and so false positives.
    owner, confidence = matches.pair_true[hits], matches.confidence[matches.pair_predicted[hits]]
    order = np.lexsort((confidence, owner))
    surest = np.diff(owner[order], append=-1) != 0
    scores = np.concatenate([confidence[order], wrong])
    right = np.concatenate([surest, np.zeros(len(wrong), dtype=bool)])
    return _area(scores, right, int(counted.sum() - surest.sum()))


def _area(scores: np.ndarray, right: np.ndarray, num_missed: int) -> float:
    """Returns the area under the precision-recall curve, integrated as in the official tool.

    Args:
        scores: (N,) confidence of each prediction that counts.
        right: (N,) bool, True for true positives.
        num_missed: number of ground truth instances without a match.
    """
    if not len(scores):
        return 0.0
    order = np.argsort(scores)
    _, first = np.unique(scores[order], return_index=True)
    # One threshold at each distinct confidence: predictions below it are dropped.
    below = np.concatenate([[0], np.cumsum(right[order])])[first]
    num_right = right.sum() - below
    precision = np.append(num_right / (len(scores) - first), 1.0)
    recall = np.append(num_right / (right.sum() + num_missed), 0.0)
    # Each point's precision holds halfway to its neighbours, up to the ends of the curve.
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (padded[:-2] - padded[2:]) / 2)
