"""Average precision of instances by the official definition, its quirks included."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from multitask.data.classes import ClassTable
from multitask.metrics.matches import Distance, Matches, join, match_frame, of_class
from multitask.metrics.overlaps import Overlaps
from multitask.metrics.predicted import PredictedInstance

OVERLAPS: np.ndarray = np.arange(0.5, 1.0, 0.05)
"""Thresholds of IoU: a match has more. Made as the official tool makes them, to the last bit."""


class Scope(NamedTuple):
    """Which true instances count; the others are neither to be found nor wrong to be found.

    Attributes:
        min_pixels: smallest size, px.
        max_distance: greatest median distance, m; None to ask for no distance at all.
        min_density: smallest share of pixels with a disparity, without which the distance is not trusted.
    """

    min_pixels: int
    max_distance: float | None = None
    min_density: float = 0.0


SCOPES: dict[str, Scope] = {"": Scope(100), "100m": Scope(1000, 100, 0.5), "50m": Scope(1000, 50, 0.5)}
"""The official ones, by the ending of the figure's name."""


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
            overlaps: of true instance ids and numbers of predicted instances.
            instances: the predicted ones.
            distances: by instance id, of every true instance and group, if known.
        """
        self.frames.append(match_frame(overlaps, instances, self.classes, distances))

    def merge(self, other: "AveragePrecision") -> None:
        """Adds another process's frames."""
        self.frames += other.frames

    def compute(self) -> dict[str, float]:
        """``ap``, ``ap50``, ``ap100m``, ``ap50m`` and ``ap/<class>`` and so on; a class without truth is left out."""
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
    """AP of one class at each of `OVERLAPS`, (10,); NaN if no true instance counts."""
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
    """AP of one class at one threshold.

    Args:
        matches: of the class.
        counted: (T,) bool, whether a true instance is to be found.
        excused: (P,) share of a prediction on truth that is not to be found.
        iou: (M,) of the pairs.
        overlap: the threshold, at least 0.5.
    """
    hits = iou > overlap
    claimed = np.zeros(len(matches.pixels), dtype=bool)
    claimed[matches.pair_predicted[hits]] = True
    wrong = matches.confidence[~claimed & (excused <= overlap)]
    hits &= counted[matches.pair_true]
    # The surest of the hits on one instance is right, the others are duplicates and wrong.
    owner, confidence = matches.pair_true[hits], matches.confidence[matches.pair_predicted[hits]]
    order = np.lexsort((confidence, owner))
    surest = np.diff(owner[order], append=-1) != 0
    scores = np.concatenate([confidence[order], wrong])
    right = np.concatenate([surest, np.zeros(len(wrong), dtype=bool)])
    return _area(scores, right, int(counted.sum() - surest.sum()))


def _area(scores: np.ndarray, right: np.ndarray, num_missed: int) -> float:
    """Area under the curve of precision over recall, integrated as the official tool does.

    Args:
        scores: (N,) confidence of each prediction that counts.
        right: (N,) bool.
        num_missed: true instances that no prediction found.
    """
    if not len(scores):
        return 0.0
    order = np.argsort(scores)
    _, first = np.unique(scores[order], return_index=True)
    # With a threshold at each distinct confidence: what lies below it is not predicted.
    below = np.concatenate([[0], np.cumsum(right[order])])[first]
    num_right = right.sum() - below
    precision = np.append(num_right / (len(scores) - first), 1.0)
    recall = np.append(num_right / (right.sum() + num_missed), 0.0)
    # Each point's precision holds half the way to its neighbours, as far as the ends of the curve.
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (padded[:-2] - padded[2:]) / 2)
