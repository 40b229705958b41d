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
    (source_rows, of_row), (source_columns, of_column) = (
        _cells(positions, new, old) for positions, new, old in zip((rows, columns), scaled, layer.shape, strict=True)
    )
    part = layer[np.ix_(source_rows, source_columns)]
    shape = len(rows), len(columns)
    if part.shape == shape:
        return part
    y, x = np.divmod(np.flatnonzero(np.isfinite(part)), part.shape[1])
    cell = of_row[y] * shape[1] + of_column[x]
    # Sorted by cell, then by value: floats that are not negative are ordered as their bits are.
    keys = cell << 32 | part[y, x].view(np.int32)
    keys.sort()
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    last = np.cumsum(count)
    found = np.full(len(count), np.nan, dtype=np.float32)
    measured = count > 0
    middle = keys[(last - count + (count - 1) // 2)[measured]]
    found[measured] = (middle & 0x7FFFFFFF).astype(np.int32).view(np.float32)
    return found.reshape(shape)


def _cells(positions: np.ndarray, new: int, old: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis, the source indices that positions are made of, and the place of the position that each is for."""
    places = np.arange(len(positions))
    if new >= old:
        return nearest(positions, new / old, old), places
    first, end = positions * old // new, (positions + 1) * old // new
    return np.arange(first[0], end[-1]), np.repeat(places, end - first)
