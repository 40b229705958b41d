"""Matches of predicted and ground truth instances: small tables per frame from which average precision is computed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from multitask.data.classes import IGNORE, INSTANCE_BASE, ClassTable, class_of
from multitask.metrics.overlaps import Overlaps
from multitask.metrics.predicted import PredictedInstance


class Distance(NamedTuple):
    """Distance of a ground truth instance.

    Attributes:
        median: median distance of its pixels with a measured disparity, m; infinite without any.
        density: share of its pixels with a measured disparity.
    """

    median: float
    density: float


class Matches(NamedTuple):
    """Ground truth instances and groups (T), predicted instances (P), and pairs (M) of one class that share pixels.

    Attributes:
        true_class: (T,) class ids.
        true_pixels: (T,) sizes, px.
        single: (T,) bool, False for a group.
        median: (T,) distance, m; NaN where distances are unknown.
        density: (T,) share of pixels with a disparity; NaN likewise.
        class_ids: (P,) predicted class ids.
        pixels: (P,) sizes, px.
        void: (P,) pixels on ground truth without an evaluated class, px.
        confidence: (P,) confidences.
        pair_true: (M,) index into T.
        pair_predicted: (M,) index into P.
        pair_pixels: (M,) common pixels, px.
    """

    true_class: np.ndarray
    true_pixels: np.ndarray
    single: np.ndarray
    median: np.ndarray
    density: np.ndarray
    class_ids: np.ndarray
    pixels: np.ndarray
    void: np.ndarray
    confidence: np.ndarray
    pair_true: np.ndarray
    pair_predicted: np.ndarray
    pair_pixels: np.ndarray


_TRUE = ("true_class", "true_pixels", "single", "median", "density")
_PREDICTED = ("class_ids", "pixels", "void", "confidence")


def match_frame(
    overlaps: Overlaps,
    instances: Sequence[PredictedInstance],
    classes: ClassTable,
    distances: Mapping[int, Distance] | None,
) -> Matches:
    """Builds the tables of one frame.

    Args:
        overlaps: overlaps of ground truth instance ids and numbers of predicted instances.
        instances: predicted instances; those without a pixel are dropped.
        classes: the class table.
        distances: distance of every ground truth instance and group by instance id; None if unknown.
    """
    ids, row = np.unique(overlaps.truth_ids, return_inverse=True)
    numbers, column = np.unique(overlaps.numbers, return_inverse=True)
    cells = np.bincount(row * len(numbers) + column, weights=overlaps.pixels, minlength=len(ids) * len(numbers))
    table = cells.reshape(len(ids), len(numbers))
    there = set(numbers.tolist())
    found = [instance for instance in instances if instance.number in there]
    predicted = table[:, np.searchsorted(numbers, [instance.number for instance in found])]
    # As in the official tool, single caravans and trailers, which have instance ids, are not void.
    void = (ids < INSTANCE_BASE) & (classes.train_ids[class_of(ids)] == IGNORE)
    counted = classes.counted[class_of(ids)]
    true_class = class_of(ids[counted])
    class_ids = np.array([instance.class_id for instance in found], dtype=np.int64)
    inside = predicted[counted]
    pair_true, pair_predicted = np.nonzero((inside > 0) & (true_class[:, None] == class_ids))
    known = [_UNKNOWN if distances is None else distances[number] for number in ids[counted].tolist()]
    return Matches(
        true_class=true_class,
        true_pixels=table[counted].sum(1),
        single=ids[counted] >= INSTANCE_BASE,
        median=np.array([distance.median for distance in known], dtype=np.float64),
        density=np.array([distance.density for distance in known], dtype=np.float64),
        class_ids=class_ids,
        pixels=predicted.sum(0),
        void=predicted[void].sum(0),
        confidence=np.array([instance.confidence for instance in found], dtype=np.float64),
        pair_true=pair_true,
        pair_predicted=pair_predicted,
        pair_pixels=inside[pair_true, pair_predicted],
    )


_UNKNOWN = Distance(np.nan, np.nan)


def join(frames: Iterable[Matches]) -> Matches:
    """Joins the tables of one or more frames."""
    frames = list(frames)
    columns = {
        field: np.concatenate([getattr(frame, field) for frame in frames])
        for field in (*_TRUE, *_PREDICTED, "pair_pixels")
    }
    for field, size in (("pair_true", "true_class"), ("pair_predicted", "class_ids")):
        first = np.cumsum([0] + [len(getattr(frame, size)) for frame in frames[:-1]])
        columns[field] = np.concatenate(
            [getattr(frame, field) + offset for frame, offset in zip(frames, first, strict=True)]
        )
    return Matches(**columns)


def of_class(matches: Matches, class_id: int) -> Matches:
    """Restricts the tables to one class."""
    true, predicted = matches.true_class == class_id, matches.class_ids == class_id
    pairs = true[matches.pair_true]
    new_true, new_predicted = np.cumsum(true) - 1, np.cumsum(predicted) - 1
    return Matches(
        **{field: getattr(matches, field)[true] for field in _TRUE},
        **{field: getattr(matches, field)[predicted] for field in _PREDICTED},
        pair_true=new_true[matches.pair_true[pairs]],
        pair_predicted=new_predicted[matches.pair_predicted[pairs]],
        pair_pixels=matches.pair_pixels[pairs],
    )
