"""The pixels of PNG files, whatever coding those have.

Of a file only the chunks that make up the picture are used. Its texts, profiles and animations, of any size and however
compressed, are compared with their check sums and passed over, so that Pillow's limits on them have nothing to refuse.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from multitask.data.png_chunks import PALETTE, PIECE, Damaged, Header, check_size, pixel_chunks, read_header, written

_STRIP = 2**24
"""Pixels that are decoded at a time: Pillow takes up to ten bytes for each."""

_PILLOWS = (OSError, SyntaxError, ValueError, LookupError, struct.error, zlib.error)
"""What Pillow raises for pixels that are broken: it depends on how."""


def check(file: BinaryIO) -> Header:
    """The header, if every chunk of the file has the check sum that it says, whatever its pixels hold.

    Raises:
        Damaged: as `read_header`, and for a wrong check sum.
    """
    header = read_header(file)
    for _ in pixel_chunks(file, header):
        pass
    return header


def read_pixels(file: BinaryIO, header: Header, *, indices: bool = False) -> np.ndarray:
    """The pixels of a PNG: greys as they are seen, whatever the coding.

    A program that makes PNGs smaller without loss may store greys of 8 bits as indices into a palette in any order, or
    in fewer bits (1, 2 or 4, where 1, 3 or 15 stand for 255): the greys are then what the file held before.

    Args:
        file: of which every check sum is compared.
        header: what `read_header` says of it.
        indices: whether to return the places in a palette, (H, W) uint8, whatever colours it has there, if any.
    Returns:
        (H, W) uint8, or uint16 for 16 bits; (H, W, 3) uint8 for RGB and for palettes of colours.
    Raises:
        Damaged: if the pixels cannot be decoded.
    """
    if header.depth >= 8 and not header.interlaced and header.height * header.width > _STRIP:
        samples = _in_strips(file, header)
    else:
        samples = _samples(header, b"".join(pixel_chunks(file, header)))
        # Rows that lack Pillow leaves at zero: they need be counted only where the last one is, or came in passes.
        if (header.interlaced or not samples[-1].any()) and _num_bytes(file, header)[0] < header.num_bytes:
            raise Damaged(f"needed {header.num_bytes} bytes in {header.height} rows, found fewer")
    if indices or header.color != PALETTE:
        return samples
    if (largest := int(samples.max())) >= len(header.palette):
        raise Damaged(f"a pixel has colour {largest} of a palette of {len(header.palette)}")
    return (header.palette[:, 0] if header.is_grey else header.palette)[samples]


def check_rows(file: BinaryIO, header: Header) -> None:
    """Checks that a PNG holds all rows, as `read_pixels` does, and no more.

    Raises:
        Damaged: if it does not.
    """
    found, ended = _num_bytes(file, header)
    if not ended or found != header.num_bytes:
        more = "" if ended else " and no end"
        raise Damaged(f"needed {header.num_bytes} bytes in {header.height} rows, found {found}{more}")


def _num_bytes(file: BinaryIO, header: Header) -> tuple[int, bool]:
    """How many bytes of rows a PNG holds, counted to where they are too many, and whether these have an end."""
    rows, found = zlib.decompressobj(), 0
    try:
        for pending in pixel_chunks(file, header):
            while pending and found <= header.num_bytes:  # a file may hold a thousand times its own size
                found += len(rows.decompress(pending, PIECE))
                pending = rows.unconsumed_tail
    except zlib.error as error:
        raise Damaged(f"not a readable PNG ({error})") from error
    return found, rows.eof


def _samples(header: Header, deflated: bytes) -> np.ndarray:
    """The samples of a picture, (H, W) or (H, W, 3), with greys of few bits brought to 8, and numbers of colours not.

    Args:
        header: of the picture.
        deflated: its rows, as the chunks of its pixels hold them.
    """
    check_size(header, len(deflated))
    try:
        image = PngImageFile(io.BytesIO(written(header, deflated)))
        image.load()
    except _PILLOWS as error:
        raise Damaged(str(error)) from error
    samples = np.asarray(image)
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * 255  # 1-bit greys: numbers of colours are no truth values to Pillow
    return samples.astype(np.uint16, copy=False) if header.depth == 16 else samples


def _in_strips(file: BinaryIO, header: Header) -> np.ndarray:
    """The samples of a large picture of 8 or 16 bits, decoded in pictures of some of its rows."""
    rows = max(1, _STRIP // header.width)
    parts, top, above = _rows(file, header, rows), 0, bytes(header.num_bytes // header.height)
    samples = np.empty(0)
    for part in parts:
        height = len(part) // len(above)
        # What a row says may be its difference from the one above it, which therefore begins the strip.
        strip = _samples(replace(header, height=height + 1), zlib.compress(above + part, 0))[1:]
        if not top:
            samples = np.empty((header.height, *strip.shape[1:]), dtype=strip.dtype)
        samples[top : top + height] = strip
        top += height
        above = b"\0" + strip[-1].astype(">u2" if header.depth == 16 else np.uint8).tobytes()
    return samples


def _rows(file: BinaryIO, header: Header, number: int) -> Iterator[bytes]:
    """The rows of a picture without interlacing, so many at a time, as they are before their filters are undone."""
    inflater, chunks, pending, more = zlib.decompressobj(), pixel_chunks(file, header), b"", True
    row = header.num_bytes // header.height
    for top in range(0, header.height, number):
        part = bytearray()
        wanted = row * min(number, header.height - top)
        while len(part) < wanted:
            if not pending:
                chunk = next(chunks, None)
                pending, more = chunk or b"", chunk is not None
            try:
                found = inflater.decompress(pending, wanted - len(part))
            except zlib.error as error:
                raise Damaged(str(error)) from error
            if not found and not more:
                raise Damaged(f"needed {header.num_bytes} bytes in {header.height} rows, found fewer")
            part += found
            pending = inflater.unconsumed_tail
        yield bytes(part)
    for _ in chunks:  # their check sums, too
        pass
