"""Pixels to instances: each pixel of an instance class votes for the centre of its instance (section 4.2)."""

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
"""With votes in more squares than this, squares are made larger: what is so widely spread has no fine structure."""

_NUM_IDS = 256
"""More than any train id."""

LEVELS: dict[str, Callable[[ClassTable], np.ndarray]] = {
    "class": lambda classes: np.arange(len(classes.names)),
    "category": lambda classes: np.array([classes.categories.index(name) for name in classes.categories]),
    "all": lambda classes: np.zeros(len(classes.names), dtype=np.int64),
}
"""By what votes are kept apart -> (C,) int64 by train id: equal numbers are clustered together."""


class _Looks(NamedTuple):
    """What confidence is made of, of K instances.

    Attributes:
        probability: (K,) mean over the pixels of the predicted class's.
        spread: (K,) root mean square distance of the votes from their mean, over the square root of the area.
        size: (K,) area over ``half_area``.
    """

    probability: np.ndarray
    spread: np.ndarray
    size: np.ndarray


CONFIDENCE_FACTORS: dict[str, Callable[[_Looks], np.ndarray]] = {
    "probability": lambda looks: looks.probability,
    "compactness": lambda looks: 1 / (1 + 2 * looks.spread),  # a half where the spread is half the instance's side
    "size": lambda looks: looks.size / (looks.size + 1),
}
"""What makes an instance sure, each from 0 to 1: pixels probably of its class, votes close together, a large area."""


@dataclass(frozen=True)
class Grouping:
    """How votes become instances; lengths are px, and areas px^2, of a picture 2048 px wide.

    Chosen on the training split of the embedded data set.

    Attributes:
        cell: side of the squares in which votes are merged; larger where votes are in more than 30,000 of them.
        least_cell: the same, px of the picture at hand: finer squares cost time in small pictures and find no more.
        max_radius: votes farther apart are never neighbours; at least two squares, and ``separation`` of them.
        min_votes: so many pixels must vote within ``max_radius`` of a place for an instance to be there.
        least_votes: the same, pixels of the picture at hand: chance makes dense places of fewer votes.
        separation: two groups of votes are two instances if, on the way from one to the other, votes are this many
            times as far apart as in the middle of either.
        close: a vote outside all clusters counts for a centre that is at most so many times as far away as the
            cluster's votes are in the root mean square.
        min_area: of an instance; smaller ones are dropped.
        half_area: an instance of this area is half as sure of its size as a very large one.
        confidence: factors of an instance's confidence, of `CONFIDENCE_FACTORS`.
        level: whose votes are clustered together, of `LEVELS`: those of one class, of one category (such as vehicles),
            or all. An instance of pixels of several classes has the class of most.
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
        """The same for a picture of another width, px."""
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
        ids: (H, W) int32, k + 1 where instance k is, 0 elsewhere.
        train_ids: (K,) int64, each one's class.
        confidence: (K,) float64 in 0 to 1.
        centres: (K, 2) float64, (x, y) px, the mean of its votes.
    """

    ids: np.ndarray
    train_ids: np.ndarray
    confidence: np.ndarray
    centres: np.ndarray


@dataclass(frozen=True)
class _Votes:
    """Where N pixels vote.

    Attributes:
        places: (N,) int64, index of the pixel in the flattened picture.
        x, y: (N,) float64 px.
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

    Pixels vote for where their vector leads; votes are clustered with OPTICS; each pixel goes to the nearest of the
    centres that its ``level`` has, if its vote is in a cluster or close to one.

    Args:
        train_ids: (H, W) int, predicted classes.
        offsets: (2, H, W) float px, (x, y), from each pixel to the centre of its instance.
        classes: the class table: pixels of classes with instances vote.
        probability: (H, W) of the predicted class; without it all are sure.
        grouping: parameters at full resolution; the default ones if None.
    Raises:
        UserError: if vectors or probabilities are not finite: what was found, and where.
        ValueError: naming the argument, what it needs and what was found, if it makes no sense.
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
        # The sum of finite numbers is finite, but for huge ones, which are then counted.
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
    """The votes of the pixels of instance classes, but for those that fall more than ``margin`` px outside."""
    height, width = train_ids.shape
    places = np.flatnonzero(classes.things[train_ids])
    rows, columns = np.divmod(places, max(width, 1))
    x, y = (offset.ravel()[places] + start for offset, start in zip(offsets, (columns, rows), strict=True))
    inside = (x >= -margin) & (x <= width + margin) & (y >= -margin) & (y <= height + margin)
    return _Votes(places, x, y, train_ids.ravel()[places])[inside]


def _cluster(votes: _Votes, scaled: Grouping) -> np.ndarray:
    """The cluster of each of N votes, (N,) int64, -1 for noise."""
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
    """The radius below which votes in a single square would be no cluster."""
    return max(2.0, separation) * side


def _merge(votes: _Votes, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merges votes in squares of a grid.

    Returns:
        (M, 2) px, the means of the votes in the M squares that have any; (M,) their numbers; (N,) each vote's square.
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
    """Instances of the votes' owners, but for small ones; the surest first."""
    votes = votes[owner >= 0]
    owner = np.unique(owner[owner >= 0], return_inverse=True)[1]  # a cluster may have lost all its votes to others
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
