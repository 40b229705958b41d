"""Where the texts of instances go in a picture, so that they cover no other text and little else."""

import numpy as np

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) px."""


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have a part in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def place_tag(ids: np.ndarray, number: int, size: tuple[float, float], taken: list[Box], must: bool) -> Box | None:
    """Where a text beside, or inside, an instance covers no other text and least of other instances.

    Args:
        ids: (H, W) int, the map of instances.
        number: of the instance, which has a pixel.
        size: (width, height) px of the text.
        taken: where texts are already.
        must: whether the text then goes into the instance's middle, if it would cover a text anywhere.
    Returns:
        None if every place covers a text, or a tenth of it other instances.
    """
    rows, columns = np.nonzero(ids == number)
    # Not the whole instance: single pixels may lie far from it.
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
    if must:
        return best or spots[-1]
    return best if best and _covered(ids, number, best) <= size[0] * size[1] / 10 else None


def _inside(corner: tuple[float, float], size: tuple[float, float], shape: tuple[int, ...]) -> Box:
    left = max(min(corner[0], shape[1] - size[0]), 0)
    top = max(min(corner[1], shape[0] - size[1]), 0)
    return left, top, left + size[0], top + size[1]


def _covered(ids: np.ndarray, number: int, spot: Box) -> int:
    """Pixels of other instances below a text."""
    left, top, right, bottom = (round(edge) for edge in spot)
    below = ids[top:bottom, left:right]
    return int(((below > 0) & (below != number)).sum())
