"""Grouping of pixels into instances: each pixel of an instance class votes for its instance's centre (section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from multitask.data.classes import ClassTable
from multitask.errors import UserError
from multitask.instances.optics import optics
from multitask.instances.valleys import valleys

_FULL_WIDTH = 2048
"""Width of a Cityscapes picture, px."""

_MOST_SQUARES = 30_000
"""Maximum number of squares with votes; with more, squares are enlarged: such spread votes have no fine structure."""

_NUM_IDS = 256
"""Number of possible train ids."""

LEVELS: dict[str, Callable[[ClassTable], np.ndarray]] = {
    "class": lambda classes: np.arange(len(classes.names)),
    "category": lambda classes: np.array([classes.categories.index(name) for name in classes.categories]),
    "all": lambda classes: np.zeros(len(classes.names), dtype=np.int64),
}
"""Functions by level that return (C,) int64 by train id: votes of classes with equal numbers are clustered together."""


class _Looks(NamedTuple):
    """Features of K instances from which their confidence is computed.

    Attributes:
        probability: (K,) mean probability of the predicted classes over the pixels.
        spread: (K,) root mean square distance of the votes from their mean, divided by the square root of the area.
        size: (K,) area divided by ``half_area``.
    """

    probability: np.ndarray
    spread: np.ndarray
    size: np.ndarray


CONFIDENCE_FACTORS: dict[str, Callable[[_Looks], np.ndarray]] = {
    "probability": lambda looks: looks.probability,
    "compactness": lambda looks: 1 / (1 + 2 * looks.spread),  # 0.5 where the spread is half the instance's side
    "size": lambda looks: looks.size / (looks.size + 1),
}
"""Factors of confidence, each from 0 to 1: probable classes, votes close together, and a large area raise it."""


@dataclass(frozen=True)
class Grouping:
    """Parameters of the grouping of votes; lengths in px and areas in px^2 of a picture 2048 px wide.

    The defaults were chosen on the training split of the embedded data set.

    Attributes:
        cell: side of the squares in which votes are merged; larger where votes are in more than 30,000 squares.
        least_cell: lower limit of ``cell``, px of the actual picture: finer squares cost time in small pictures without
            finding more.
        max_radius: greatest distance of neighbouring votes; at least 2 and at least ``separation`` squares.
        min_votes: number of votes within ``max_radius`` of a point that makes an instance possible there.
        least_votes: lower limit of ``min_votes``, pixels of the actual picture: fewer votes may be dense by chance.
        separation: two groups of votes are two instances if votes between them are this many times as far apart as in
            the middle of either.
        close: a vote outside of all clusters joins a cluster if its distance from the centre is at most this many times
            the root mean square distance of the cluster's votes.
        min_area: smallest area of an instance; smaller ones are dropped.
        half_area: area at which the confidence factor ``size`` is 0.5.
        confidence: factors of an instance's confidence, from `CONFIDENCE_FACTORS`.
        level: votes that are clustered together, from `LEVELS`: those of one class, of one category (such as vehicles),
            or all. An instance has the class of most of its pixels.
    """

    cell: float = 4.0
    least_cell: float = 1.0
    max_radius: float = 16.0
    min_votes: float = 64.0
    least_votes: float = 40.0
    separation: float = 1.6
    close: float = 2.0
    min_area: float = 100.0
    half_area: float = 8000.0
    confidence: list[str] = field(default_factory=lambda: ["probability", "compactness"])
    level: str = "category"

    def __post_init__(self) -> None:
        for key in ("cell", "least_cell", "max_radius", "min_votes", "least_votes", "half_area"):
            if not 0 < getattr(self, key) < float("inf"):
                raise UserError(f"instances.{key}: needed a number above zero, found {getattr(self, key)}")
        for key in ("close", "min_area"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise UserError(f"instances.{key}: needed a number >= 0, found {getattr(self, key)}")
        if not 1 < self.separation < float("inf"):
            raise UserError(f"instances.separation: needed a number above 1, found {self.separation}")
        factors = set(self.confidence)
        if not factors or len(factors) < len(self.confidence) or not factors <= CONFIDENCE_FACTORS.keys():
            raise UserError(f"instances.confidence: needed some of {list(CONFIDENCE_FACTORS)}, found {self.confidence}")
        if self.level not in LEVELS:
            raise UserError(f"instances.level: needed one of {list(LEVELS)}, found {self.level!r}")

    def scaled(self, width: int) -> "Grouping":
        """Returns the parameters for a picture of another width, px."""
        scale = width / _FULL_WIDTH
        cell = max(self.cell * scale, self.least_cell)
        return replace(
            self,
            cell=cell,
            max_radius=max(self.max_radius * scale, _least_radius(cell, self.separation)),
            min_votes=max(self.min_votes * scale**2, self.least_votes),
            min_area=self.min_area * scale**2,
            half_area=self.half_area * scale**2,
        )


@dataclass(frozen=True)
class Instances:
    """The instances of one picture, K of them.

    Attributes:
        ids: (H, W) int32, k + 1 for pixels of instance k, 0 elsewhere.
        train_ids: (K,) int64, their classes.
        confidence: (K,) float64 in 0 to 1, in descending order.
        centres: (K, 2) float64, (x, y) px, the mean of each instance's votes.
    """

    ids: np.ndarray
    train_ids: np.ndarray
    confidence: np.ndarray
    centres: np.ndarray


@dataclass(frozen=True)
class _Votes:
    """Votes of N pixels.

    Attributes:
        places: (N,) int64, index of the pixel in the flattened picture.
        x, y: (N,) float64, coordinates of the vote, px.
        train_ids: (N,) uint8, the pixels' classes.
    """

    places: np.ndarray
    x: np.ndarray
    y: np.ndarray
    train_ids: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "_Votes":
        return _Votes(self.places[chosen], self.x[chosen], self.y[chosen], self.train_ids[chosen])


def group(
    train_ids: np.ndarray,
    offsets: np.ndarray,
    classes: ClassTable,
    probability: np.ndarray | None = None,
    grouping: Grouping | None = None,
) -> Instances:
    """Finds the instances in a picture's predictions.

    Each pixel votes for the end of its vector; votes are clustered with OPTICS; each pixel goes to the nearest centre
    of its ``level``, if its vote is in a cluster or close to one.

    Args:
        train_ids: (H, W) int, predicted classes.
        offsets: (2, H, W) float px, (x, y), from each pixel to the centre of its instance.
        classes: the class table; pixels of classes with instances vote.
        probability: (H, W), probability of the predicted class; None: 1 everywhere.
        grouping: parameters at full resolution; None: the defaults.
    Raises:
        UserError: naming what was found and where, if vectors or probabilities are not finite.
        ValueError: naming the argument, what was needed and what was found, if it is invalid.
    """
    _check(train_ids, offsets, probability)
    scaled = (grouping or Grouping()).scaled(max(train_ids.shape[1], 1))
    votes = _cast(train_ids, offsets, classes, scaled.max_radius)
    owner = np.full(len(votes.places), -1)
    parts = LEVELS[scaled.level](classes)[votes.train_ids]
    for part in np.unique(parts).tolist():
        members = np.flatnonzero(parts == part)
        found = _cluster(votes[members], scaled)
        owner[members] = np.where(found < 0, -1, found + owner.max(initial=-1) + 1)
    return _assemble(votes, owner, train_ids.shape, probability, scaled)


def _check(train_ids: np.ndarray, offsets: np.ndarray, probability: np.ndarray | None) -> None:
    if train_ids.ndim != 2 or not np.issubdtype(train_ids.dtype, np.integer):
        raise ValueError(f"train_ids: needed (H, W) integers, found {train_ids.shape} {train_ids.dtype}")
    if train_ids.size and not 0 <= train_ids.min() <= train_ids.max() < _NUM_IDS:
        raise ValueError(f"train_ids: needed 0 to {_NUM_IDS - 1}, found {train_ids.min()} to {train_ids.max()}")
    if offsets.shape != (2, *train_ids.shape):
        raise ValueError(f"offsets: needed the shape {(2, *train_ids.shape)} of the classes, found {offsets.shape}")
    if probability is not None and probability.shape != train_ids.shape:
        raise ValueError(f"probability: needed the shape {train_ids.shape} of the classes, found {probability.shape}")
    for name, values in (("offsets (vectors of the instance task)", offsets), ("probability", probability)):
        # The sum is finite if all numbers are, unless they are huge; only if it is not are they counted one by one.
        if values is None:
            continue
        with np.errstate(invalid="ignore"):
            total = values.sum(dtype=np.float64)
        if not np.isfinite(total) and (wrong := ~np.isfinite(values)).any():
            place = tuple(np.argwhere(wrong)[0][-2:].tolist())
            raise UserError(
                f"{name}: needed finite numbers, found {wrong.sum()} of {wrong.size} NaN or infinite, the first at "
                f"(row, column) {place}"
            )


def _cast(train_ids: np.ndarray, offsets: np.ndarray, classes: ClassTable, margin: float) -> _Votes:
    """Returns the votes of pixels of instance classes, except votes more than ``margin`` px outside of the picture."""
    height, width = train_ids.shape
    places = np.flatnonzero(classes.things[train_ids])
    rows, columns = np.divmod(places, max(width, 1))
    x, y = (offset.ravel()[places] + start for offset, start in zip(offsets, (columns, rows), strict=True))
    inside = (x >= -margin) & (x <= width + margin) & (y >= -margin) & (y <= height + margin)
    return _Votes(places, x, y, train_ids.ravel()[places])[inside]


def _cluster(votes: _Votes, scaled: Grouping) -> np.ndarray:
    """Returns the cluster of each of N votes, (N,) int64, -1 for noise."""
    side = scaled.cell
    points, weights, cell = _merge(votes, side)
    while len(points) > _MOST_SQUARES:
        side *= 1.5
        points, weights, cell = _merge(votes, side)
    radius = max(scaled.max_radius, _least_radius(side, scaled.separation))
    plot = optics(points, weights, radius, scaled.min_votes)
    labels = valleys(plot, radius, scaled.separation, side)
    nearest, distance = np.full(len(points), -1), np.full(len(points), np.inf)
    close = np.zeros(len(points), dtype=bool)
    for label in range(labels.max(initial=-1) + 1):
        members = labels == label
        centre = np.average(points[members], axis=0, weights=weights[members])
        apart = np.hypot(*(points - centre).T)
        spread = np.sqrt(np.average(apart[members] ** 2, weights=weights[members]))
        nearer = apart < distance
        nearest[nearer], distance[nearer] = label, apart[nearer]
        close[nearer] = apart[nearer] <= scaled.close * max(spread, side)
    return np.where((labels >= 0) | close, nearest, -1)[cell]


def _least_radius(side: float, separation: float) -> float:
    """Returns the smallest radius at which votes in a single square can form a cluster."""
    return max(2.0, separation) * side


def _merge(votes: _Votes, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merges votes in squares of a grid.

    Returns:
        (M, 2) px, means of the votes in each of the M occupied squares; (M,) their numbers; (N,) each vote's square.
    """
    if not len(votes.x):
        return np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64)
    columns, rows = (np.floor(v / side).astype(np.int64) for v in (votes.x, votes.y))
    columns, rows = columns - columns.min(), rows - rows.min()
    square = rows * (columns.max() + 1) + columns
    number = np.bincount(square)
    occupied = np.flatnonzero(number)
    index = np.zeros(len(number), dtype=np.int64)
    index[occupied] = np.arange(len(occupied))
    sums = [np.bincount(square, weights=v)[occupied] for v in (votes.x, votes.y)]
    weights = number[occupied].astype(np.float64)
    return np.stack(sums, axis=-1) / weights[:, None], weights, index[square]


def _assemble(
    votes: _Votes, owner: np.ndarray, shape: tuple[int, ...], probability: np.ndarray | None, scaled: Grouping
) -> Instances:
    """Builds instances from the votes' clusters, without small ones, by descending confidence."""
    votes = votes[owner >= 0]
    owner = np.unique(owner[owner >= 0], return_inverse=True)[1]  # renumbers: some clusters lost all votes to others
    areas = np.bincount(owner)
    num, sure = len(areas), np.ones(shape) if probability is None else probability
    counts = np.bincount(owner * _NUM_IDS + votes.train_ids, minlength=num * _NUM_IDS)
    x, y, square, mean_probability = (
        np.bincount(owner, weights=v) / areas
        for v in (votes.x, votes.y, votes.x**2 + votes.y**2, sure.ravel()[votes.places])
    )
    spread = np.sqrt(np.maximum(square - x**2 - y**2, 0) / areas)
    looks = _Looks(mean_probability, spread, areas / scaled.half_area)
    confidence = np.prod([CONFIDENCE_FACTORS[name](looks) for name in scaled.confidence], axis=0)
    kept = np.flatnonzero(areas >= scaled.min_area)
    kept = kept[np.argsort(-confidence[kept], kind="stable")]
    new = np.zeros(num, dtype=np.int32)
    new[kept] = np.arange(len(kept)) + 1
    ids = np.zeros(shape, dtype=np.int32)
    ids.ravel()[votes.places] = new[owner]
    train_ids = counts.reshape(num, _NUM_IDS).argmax(1)[kept]
    return Instances(ids, train_ids, confidence[kept], np.stack([x, y], axis=-1)[kept])
