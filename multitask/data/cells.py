"""What the pixels of a picture at another size take of labels and of measurements."""

import numpy as np


def nearest(positions: np.ndarray, factor: float, length: int) -> np.ndarray:
    """Source index whose pixel holds the centre of each scaled pixel."""
    return np.minimum(((positions + 0.5) / factor).astype(np.int64), length - 1)


def resize_measured(layer: np.ndarray, scaled: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Measurements at another size: of the measured pixels in each cell the median.

    Pixel (i, j) of h x w is the cell of rows floor(i H / h) to floor((i + 1) H / h) - 1 of the layer's H x W, and of
    columns likewise. A cell without a measurement is not measured. Of an even number of measurements the lower of the
    middle two is taken, which is one that was made: their mean would lie between near and far at an edge. An axis that
    is enlarged, or kept, takes the nearest pixel.

    Args:
        layer: (H, W) float32 of at least 0, NaN where nothing was measured.
        scaled: (h, w) px of the whole layer at its new size.
        rows: the consecutive rows of it that are wanted.
        columns: the columns.
    Returns:
        (len(rows), len(columns)) float32, the layer's own values.
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
    """Along one axis, the source indices that consecutive positions are made of, and how many each is made of."""
    if new >= old:
        return nearest(positions, new / old, old), np.ones(len(positions), dtype=np.int64)
    first, end = positions * old // new, (positions + 1) * old // new
    return np.arange(first[0], end[-1]), end - first


def _medians_of_blocks(layer: np.ndarray, height: int, width: int) -> np.ndarray:
    """Medians of cells that are all of one size, where this is several times faster than `_medians`."""
    rows, columns = layer.shape[0] // height, layer.shape[1] // width
    blocks = layer.reshape(rows, height, columns, width).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    ordered = np.sort(blocks, axis=1)  # what is not measured last
    count = np.isfinite(ordered).sum(1)
    return ordered[np.arange(len(ordered)), np.maximum(count - 1, 0) // 2].reshape(rows, columns)


def _medians(layer: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Medians of cells of these numbers of rows and of columns, one after the other."""
    of_row, of_column = (np.repeat(np.arange(len(sizes)), sizes) for sizes in (heights, widths))
    y, x = np.divmod(np.flatnonzero(np.isfinite(layer)), layer.shape[1])
    cell = of_row[y] * len(widths) + of_column[x]
    # Sorted by cell, then by value: floats that are not negative are ordered as their bits are.
    keys = cell << 32 | layer[y, x].view(np.int32)
    keys.sort()
    count = np.bincount(cell, minlength=len(heights) * len(widths))
    measured, end = count > 0, np.cumsum(count)
    middle = keys[(end - count + (count - 1) // 2)[measured]]
    found = np.full(len(count), np.nan, dtype=np.float32)
    found[measured] = (middle & 0x7FFFFFFF).astype(np.int32).view(np.float32)
    return found.reshape(len(heights), len(widths))
