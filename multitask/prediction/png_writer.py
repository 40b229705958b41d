"""Writing greyscale PNG files a few rows at a time."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from multitask.data.png_chunks import END, GREY, Header, beginning, pixel_chunk
from multitask.errors import UserError, reason
from multitask.files import atomic_writer

_UP = 2
"""PNG filter that stores a row's differences from the row above: in enlarged layers nearly all are zero."""


@contextmanager
def png_rows(path: Path, size: tuple[int, int], bits: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Opens a PNG to which rows are added from top to bottom within ``with``; it appears at the end or not at all.

    Args:
        path: the file.
        size: (H, W) px.
        bits: 8 or 16 per pixel.
    Yields:
        A function that adds rows (rows, W) uint8 or uint16.
    Raises:
        UserError: naming the file, if it cannot be written.
    """
    with atomic_writer(path, durable=False) as file:
        rows = _Rows(path, file, size, bits)
        yield rows.add
        rows.end()


class _Rows:
    """Filters, compresses and writes the rows of a PNG."""

    def __init__(self, path: Path, file: BinaryIO, size: tuple[int, int], bits: int) -> None:
        self._path = path
        self._file = file
        self._missing = size[0]
        self._above = np.zeros(size[1] * bits // 8, dtype=np.uint8)
        # Level 1 writes such layers several times faster than the default, for few more bytes.
        self._compressor = zlib.compressobj(1)
        self._write(beginning(Header(*size, bits, GREY, interlaced=False, palette=np.zeros((0, 3), np.uint8))))

    def add(self, rows: np.ndarray) -> None:
        values = np.ascontiguousarray(rows, dtype=">u2").view(np.uint8) if rows.itemsize == 2 else rows
        filtered = np.empty((len(values), values.shape[1] + 1), dtype=np.uint8)
        filtered[:, 0] = _UP
        np.subtract(values[0], self._above, out=filtered[0, 1:])
        np.subtract(values[1:], values[:-1], out=filtered[1:, 1:])
        self._above = values[-1].copy()
        self._missing -= len(values)
        self._write(*pixel_chunk(self._compressor.compress(filtered.data)))

    def end(self) -> None:
        assert self._missing == 0
        self._write(*pixel_chunk(self._compressor.flush()), END)

    def _write(self, *parts: bytes) -> None:
        try:
            self._file.writelines(parts)
        except OSError as error:  # converted here, where it is known which open file is at fault
            raise UserError(f"{self._path}: could not be written ({reason(error)})") from error
