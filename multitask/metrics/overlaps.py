"""Overlaps of ground truth and predicted segments in one frame, which contain all that the scene metrics need."""

from typing import NamedTuple

import numpy as np

_BITS = (18, 8, 8, 24)
"""Bits of a key's fields: instance id, class id, train id, number of the predicted instance."""


class Overlaps(NamedTuple):
    """Pixel counts by ground truth and prediction: one row for each combination that occurs.

    Attributes:
        truth_ids: (R,) int64 instance ids of the ground truth, coded as in a `Sample`.
        class_ids: (R,) int64 class ids of the ground truth.
        train_ids: (R,) int64 predicted train ids.
        numbers: (R,) int64 numbers of the predicted instances, 0 for none.
        pixels: (R,) int64 numbers of pixels.
    """

    truth_ids: np.ndarray
    class_ids: np.ndarray
    train_ids: np.ndarray
    numbers: np.ndarray
    pixels: np.ndarray


def count_overlaps(
    truth_ids: np.ndarray | None,
    class_ids: np.ndarray | None,
    train_ids: np.ndarray | None,
    numbers: np.ndarray | None,
) -> Overlaps:
    """Counts the combinations in one pass over the pixels.

    A missing layer counts as 0 everywhere; without any layer there is no row. Equal neighbours form one run, and a
    frame has some ten thousand runs, so that only their keys have to be sorted.

    Args:
        truth_ids: (H, W) int, instance ids of the ground truth, below 2^18.
        class_ids: (H, W) int, class ids of the ground truth, below 2^8.
        train_ids: (H, W) int, predicted train ids, below 2^8.
        numbers: (H, W) int, numbers of the predicted instances, 0 for none, below 2^24.
    """
    flat = [None if layer is None else layer.reshape(-1) for layer in (truth_ids, class_ids, train_ids, numbers)]
    starts, lengths = _runs([layer for layer in flat if layer is not None])
    keys = np.zeros(len(starts), dtype=np.int64)
    for layer, bits in zip(flat, _BITS, strict=True):
        keys <<= bits
        if layer is not None:
            keys |= layer[starts].astype(np.int64)
    keys, owner = np.unique(keys, return_inverse=True)
    pixels = np.bincount(owner, weights=lengths, minlength=len(keys)).astype(np.int64)
    ends = np.cumsum(_BITS[::-1])[::-1]
    columns: list[np.ndarray] = [
        (keys >> (end - bits)) & ((1 << bits) - 1) for bits, end in zip(_BITS, ends.tolist(), strict=True)
    ]
    return Overlaps(*columns, pixels)  # type: ignore[call-arg]


def _runs(layers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and lengths of the runs of pixels that are equal in all layers (N,)."""
    size = len(layers[0]) if layers else 0
    begins = np.zeros(size, dtype=bool)
    begins[:1] = True
    for layer in layers:
        begins[1:] |= layer[1:] != layer[:-1]
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=size)
