"""Resampling of label and measurement layers to another size."""

import numpy as np


def nearest(positions: np.ndarray, factor: float, length: int) -> np.ndarray:
    """Returns the index of the source pixel that holds the centre of each scaled pixel."""
    return np.minimum(((positions + 0.5) / factor).astype(np.int64), length - 1)


def resize_measured(layer: np.ndarray, scaled: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Resizes measurements: each new pixel is the median of the measured pixels in its cell.

    The cell of pixel (i, j) of h x w is the rows floor(i H / h) to floor((i + 1) H / h) - 1 of the H x W layer, and
    columns likewise. A cell without a measurement becomes not measured. For an even number of measurements the lower of
    the middle two is taken, since it was measured: their mean would lie between near and far at an edge. Along an axis
    that is enlarged, or kept, each pixel takes the nearest source pixel.

    Args:
        layer: (H, W) float32, not negative, NaN where nothing was measured.
        scaled: (h, w) px of the whole layer at its new size.
        rows: consecutive rows to return, in px of the new size.
        columns: consecutive columns to return, likewise.
    Returns:
        (len(rows), len(columns)) float32, each a value of the layer.
    """
    (source_rows, heights), (source_columns, widths) = (
        _cells(positions, new, old) for positions, new, old in zip((rows, columns), scaled, layer.shape, strict=True)
    )
    part = layer[np.ix_(source_rows, source_columns)]
    if len(source_rows) == len(rows) and len(source_columns) == len(columns):
        return part
    if (heights == heights[0]).all() and (widths == widths[0]).all():
        return _medians_of_blocks(part, heights[0], widths[0])
    return _medians(part, heights, widths)


def _cells(positions: np.ndarray, new: int, old: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns, along one axis, the source indices that the positions cover, and how many of them each position has."""
    if new >= old:
        return nearest(positions, new / old, old), np.ones(len(positions), dtype=np.int64)
    first, end = positions * old // new, (positions + 1) * old // new
    return np.arange(first[0], end[-1]), end - first


def _medians_of_blocks(layer: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the medians of cells of equal size, for which it is several times faster than `_medians`."""
    rows, columns = layer.shape[0] // height, layer.shape[1] // width
    blocks = layer.reshape(rows, height, columns, width).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    ordered = np.sort(blocks, axis=1)  # pixels without a measurement (NaN) come last
    count = np.isfinite(ordered).sum(1)
    return ordered[np.arange(len(ordered)), np.maximum(count - 1, 0) // 2].reshape(rows, columns)


def _medians(layer: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Returns the medians of adjacent cells with the given numbers of rows and columns."""
    of_row, of_column = (np.repeat(np.arange(len(sizes)), sizes) for sizes in (heights, widths))
    y, x = np.divmod(np.flatnonzero(np.isfinite(layer)), layer.shape[1])
    cell = of_row[y] * len(widths) + of_column[x]
    # Sorted by cell, then by value: non-negative floats have the same order as their bit patterns.
    keys = cell << 32 | layer[y, x].view(np.int32)
    keys.sort()
    count = np.bincount(cell, minlength=len(heights) * len(widths))
    measured, end = count > 0, np.cumsum(count)
    middle = keys[(end - count + (count - 1) // 2)[measured]]
    found = np.full(len(count), np.nan, dtype=np.float32)
    found[measured] = (middle & 0x7FFFFFFF).astype(np.int32).view(np.float32)
    return found.reshape(len(heights), len(widths))
