"""Placement of instances' texts in a picture, so that they cover no other text and little else."""

import numpy as np

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) px."""


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def place_tag(ids: np.ndarray, number: int, size: tuple[float, float], taken: list[Box], force: bool) -> Box | None:
    """Finds a place beside or inside an instance where a text covers no other text and least of other instances.

    Args:
        ids: (H, W) int, the map of instances.
        number: number of the instance, which has at least one pixel.
        size: (width, height) px of the text.
        taken: boxes of texts placed already.
        force: whether the text is placed even if it covers much of other instances, or, in the instance's middle, if
            every place covers a text.
    Returns:
        The box; without ``force`` None if every place covers a text, or more than a tenth of the text would cover other
        instances.
    """
    rows, columns = np.nonzero(ids == number)
    # Percentiles, since single pixels may lie far from the rest of the instance.
    left, right = np.percentile(columns, (5, 95))
    top, bottom = np.percentile(rows, (5, 95))
    middle = (left + right - size[0]) / 2, (top + bottom - size[1]) / 2
    corners = [
        (middle[0], top - size[1] - 2),
        (middle[0], bottom + 2),
        (right + 2, middle[1]),
        (left - size[0] - 2, middle[1]),
        (middle[0], top + 2),
        middle,
    ]
    spots = [_inside(corner, size, ids.shape) for corner in corners]
    free = [spot for spot in spots if not any(overlap(spot, other) for other in taken)]
    best = min(free, key=lambda spot: _covered(ids, number, spot), default=None)
    if force:
        return best or spots[-1]
    return best if best and _covered(ids, number, best) <= size[0] * size[1] / 10 else None


def _inside(corner: tuple[float, float], size: tuple[float, float], shape: tuple[int, ...]) -> Box:
    left = max(min(corner[0], shape[1] - size[0]), 0)
    top = max(min(corner[1], shape[0] - size[1]), 0)
    return left, top, left + size[0], top + size[1]


def _covered(ids: np.ndarray, number: int, spot: Box) -> int:
    """Counts the pixels of other instances below a text."""
    left, top, right, bottom = (round(edge) for edge in spot)
    below = ids[top:bottom, left:right]
    return int(((below > 0) & (below != number)).sum())
