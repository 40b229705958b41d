"""Decoding the pixels of PNG files of any coding.

Only the chunks that make up the picture are decoded. Texts, profiles and animations, of any size and compression, are
verified by their checksums and skipped, so that Pillow's limits on them never apply.
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
"""Number of pixels decoded at a time: Pillow needs up to ten bytes for each."""

_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, LookupError, struct.error, zlib.error)
"""Errors that Pillow raises for different kinds of broken pixels."""


def check(file: BinaryIO) -> Header:
    """Returns the header, and verifies the checksum of every chunk, without decoding the pixels.

    Raises:
        Damaged: as for `read_header`, and for a wrong checksum.
    """
    header = read_header(file)
    for _ in pixel_chunks(file, header):
        pass
    return header


def read_pixels(file: BinaryIO, header: Header, *, indices: bool = False) -> np.ndarray:
    """Reads the pixels of a PNG; greys are returned as displayed, whatever their coding.

    A lossless PNG optimiser may store 8-bit greys as indices into a palette in any order, or in fewer bits (1, 2 or 4,
    where 1, 3 or 15 stand for 255): the returned greys are those of the original file.

    Args:
        file: the PNG, all of whose checksums are verified.
        header: its header, from `read_header`.
        indices: whether to return palette indices, (H, W) uint8, whatever the colours; greys are returned as they are.
    Returns:
        (H, W) uint8, or uint16 for 16 bits; (H, W, 3) uint8 for RGB and for palettes of colours.
    Raises:
        Damaged: if the pixels cannot be decoded.
    """
    if header.depth >= 8 and not header.interlaced and header.height * header.width > _STRIP:
        samples = _in_strips(file, header)
    else:
        samples = _samples(header, b"".join(pixel_chunks(file, header)))
        # Pillow leaves missing rows at zero, so rows are counted only if the last one is zero or the file interlaced.
        if (header.interlaced or not samples[-1].any()) and _num_bytes(file, header)[0] < header.num_bytes:
            raise Damaged(f"needed {header.num_bytes} bytes in {header.height} rows, found fewer")
    if indices or header.color != PALETTE:
        return samples
    if (largest := int(samples.max())) >= len(header.palette):
        raise Damaged(f"a pixel has colour {largest} of a palette of {len(header.palette)}")
    return (header.palette[:, 0] if header.is_grey else header.palette)[samples]


def check_rows(file: BinaryIO, header: Header) -> None:
    """Checks that a PNG holds exactly its rows; `read_pixels` only checks that it has no fewer.

    Raises:
        Damaged: if it holds more or fewer bytes.
    """
    found, ended = _num_bytes(file, header)
    if not ended or found != header.num_bytes:
        more = "" if ended else " and no end"
        raise Damaged(f"needed {header.num_bytes} bytes in {header.height} rows, found {found}{more}")


def _num_bytes(file: BinaryIO, header: Header) -> tuple[int, bool]:
    """Counts the bytes of a PNG's rows, until there are too many, and returns also whether their stream ends."""
    rows, found = zlib.decompressobj(), 0
    try:
        for pending in pixel_chunks(file, header):
            while pending and found <= header.num_bytes:  # inflated data may be a thousand times the file's size
                found += len(rows.decompress(pending, PIECE))
                pending = rows.unconsumed_tail
    except zlib.error as error:
        raise Damaged(f"not a readable PNG ({error})") from error
    return found, rows.eof


def _samples(header: Header, deflated: bytes) -> np.ndarray:
    """Decodes the samples of a picture, (H, W) or (H, W, 3); greys of few bits are scaled to 8, indices are not.

    Args:
        header: header of the picture.
        deflated: its compressed rows, the joined content of its pixel chunks.
    """
    check_size(header, len(deflated))
    try:
        image = PngImageFile(io.BytesIO(written(header, deflated)))
        image.load()
    except _PILLOW_ERRORS as error:
        raise Damaged(str(error)) from error
    samples = np.asarray(image)
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * 255  # 1-bit greys; only these are bool, 1-bit indices are not
    return samples.astype(np.uint16, copy=False) if header.depth == 16 else samples


def _in_strips(file: BinaryIO, header: Header) -> np.ndarray:
    """Decodes the samples of a large picture of 8 or 16 bits, strip by strip, each as a picture of its own."""
    rows = max(1, _STRIP // header.width)
    parts, top, above = _rows(file, header, rows), 0, bytes(header.num_bytes // header.height)
    samples = np.empty(0)
    for part in parts:
        height = len(part) // len(above)
        # A row may be stored as its difference from the row above, which is therefore put in front of the strip.
        strip = _samples(replace(header, height=height + 1), zlib.compress(above + part, 0))[1:]
        if not top:
            samples = np.empty((header.height, *strip.shape[1:]), dtype=strip.dtype)
        samples[top : top + height] = strip
        top += height
        above = b"\0" + strip[-1].astype(">u2" if header.depth == 16 else np.uint8).tobytes()
    return samples


def _rows(file: BinaryIO, header: Header, number: int) -> Iterator[bytes]:
    """Yields the inflated, still filtered rows of a picture without interlacing, ``number`` rows at a time."""
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
    for _ in chunks:  # verifies the checksums of the remaining chunks
        pass
