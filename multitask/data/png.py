"""What Pillow does not check of a PNG."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from multitask.errors import UserError


def mode_of(file: BinaryIO, image: Image.Image) -> str:
    """Pillow's mode, with the bit depth where Pillow changes values to 8 bits."""
    position = file.tell()
    file.seek(24)
    depth, _, compression, filtering = file.read(4)
    file.seek(position)
    if compression or filtering:
        raise OSError("its compression or filtering is unknown")
    if image.mode == "P" and image.palette is None:
        raise OSError("it has no palette")
    return f"{image.mode};{depth}" if image.mode in ("RGB", "L") and depth != 8 else image.mode


def checked(png: bytes) -> bytes:
    """The same bytes, if every chunk has the check sum that it says: Pillow passes over those of the pixels."""
    for number, (name, data, checksum) in enumerate(_chunks(png)):
        if zlib.crc32(data, zlib.crc32(name)) != checksum:
            raise OSError(f"the check sum of chunk {name!r} is wrong")
        if (name == b"IHDR") != (number == 0):
            raise OSError("it has not one header, at its beginning")
    return png


def _chunks(png: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Name, content and check sum of each chunk."""
    view, position = memoryview(png), 8  # behind the signature
    while position < len(png):
        length, name = struct.unpack_from(">I4s", png, position)
        end = position + 8 + length
        yield name, view[position + 8 : end], struct.unpack_from(">I", png, end)[0]
        position = end + 4


_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a pixel, by the PNG's colour type."""


def check_rows(path: Path) -> None:
    """Checks that a PNG, which `read_png` has read, holds all rows and no more: Pillow takes those that lack as black.

    Raises:
        UserError: naming the file.
    """
    png = path.read_bytes()
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, 16)
    needed = height * (1 + -(-width * _SAMPLES[color] * depth // 8))
    try:
        rows = zlib.decompressobj()
        found = sum(len(rows.decompress(data)) for name, data, _ in _chunks(png) if name == b"IDAT")
        whole = rows.eof
    except zlib.error as error:
        raise UserError(f"{path}: not a readable PNG ({error})") from error
    if not whole or (found != needed and not interlaced):
        raise UserError(f"{path}: needed {needed} bytes in {height} rows, found {found}")
