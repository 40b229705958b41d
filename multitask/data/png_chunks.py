"""Header and chunks of PNG files, with limits that are checked before data are read."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

MOST_PIXELS = 225_000_000
"""Size limit of a picture in px, such as 15,000 x 15,000; half for interlaced ones, which are decoded at once.

It replaces Pillow's own limit on a picture's pixels, and keeps the memory for reading one below 1 GB."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
"""Last bytes of every PNG."""

_HEADER = struct.Struct(">IIBBBBB")
_MOST_PALETTE = 3 * 256
PIECE = 2**16
"""Number of bytes processed at a time when data are inflated or verified but not kept."""

_INFLATION = 1032
"""Maximum compression ratio of zlib's format."""

GREY, _RGB, PALETTE = 0, 2, 3
_SAMPLES = {GREY: 1, _RGB: 3, PALETTE: 1, 4: 2, 6: 4}
"""Number of channels by PNG colour type."""

_DEPTHS = {GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_WORDS = {GREY: "grey", _RGB: "RGB", PALETTE: "palette", 4: "grey with transparency", 6: "RGB with transparency"}

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps across and down, of each pass of an interlaced picture."""


class Damaged(Exception):
    """Error for a damaged PNG; its text describes the fault."""


@dataclass(frozen=True)
class Header:
    """Header of a PNG.

    Attributes:
        height, width: px.
        depth: bit depth of a sample.
        color: PNG colour type.
        interlaced: whether the pixels are stored in the seven passes of Adam7.
        palette: (N, 3) uint8 RGB, N = 0 without a palette.
    """

    height: int
    width: int
    depth: int
    color: int
    interlaced: bool
    palette: np.ndarray

    @property
    def is_grey(self) -> bool:
        """Whether each pixel is a grey, stored directly or by a palette of greys."""
        greys = self.color == PALETTE and bool((self.palette == self.palette[:, :1]).all())
        return greys or self.color == GREY

    @property
    def is_rgb(self) -> bool:
        return self.color == _RGB

    @property
    def words(self) -> str:
        """Description of the pixels' coding, for messages."""
        kind = " of greys" if self.is_grey else " of colours"
        return f"{self.depth}-bit {_WORDS[self.color]}" + (kind if self.color == PALETTE else "")

    @property
    def num_bytes(self) -> int:
        """Number of bytes of all inflated rows: the samples, and a filter byte in front of each row."""
        passes = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for left, top, across, down in passes:
            width, height = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if width > 0 and height > 0:
                total += height * (1 + -(-width * _SAMPLES[self.color] * self.depth // 8))
        return total


def read_header(file: BinaryIO) -> Header:
    """Reads the header of a PNG, and checks that it is plausible and that the file has an end.

    Raises:
        Damaged: if it is not a PNG, has no end, or claims more pixels than its bytes can hold or than `MOST_PIXELS`.
    """
    fields = palette = b""
    for name, length in _chunks(file):
        if (name == b"IHDR") == bool(fields):
            raise Damaged("it has not one header, at its beginning")
        if name == b"IHDR":
            fields = _content(file, name, length, _HEADER.size)
        elif name == b"PLTE":
            palette = _content(file, name, length, _MOST_PALETTE)
        elif name == b"IDAT":
            return _header(fields, palette, file.seek(0, io.SEEK_END))
    raise Damaged("it has no pixels")


def check_chunks(file: BinaryIO) -> None:
    """Checks the beginning and end of a PNG of any size, and the checksum of each chunk.

    Raises:
        Damaged: if one of them is wrong.
    """
    for name, length in _chunks(file):
        _content(file, name, length, 0)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields the name and length of each chunk but the last; the file is then positioned at the chunk's content."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - len(END)))
    ending, position = file.read(), len(_SIGNATURE)
    file.seek(0)
    if file.read(position) != _SIGNATURE:
        raise Damaged("it does not begin as one")
    if ending != END:
        raise Damaged("it has no end")
    while position < size - len(END):
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        position += 12 + length
        if position > size - len(END) or name == b"IEND":
            raise Damaged("its end is not where its chunks end")
        yield name, length


def _content(file: BinaryIO, name: bytes, length: int, limit: int) -> bytes:
    """Returns the content of a chunk, or b"" if it is longer than ``limit`` bytes; verifies its checksum."""
    content, checksum = b"", zlib.crc32(name)
    if length <= limit:
        content = file.read(length)
        checksum = zlib.crc32(content, checksum)
    else:
        for position in range(0, length, PIECE):
            checksum = zlib.crc32(file.read(min(PIECE, length - position)), checksum)
    if struct.pack(">I", checksum) != file.read(4):
        raise Damaged(f"the check sum of chunk {name!r} is wrong")
    return content


def _header(fields: bytes, palette: bytes, size: int) -> Header:
    """Parses and checks the header of a file of ``size`` bytes from the content of its chunks."""
    if len(fields) != _HEADER.size:
        raise Damaged("its header has another length")
    width, height, depth, color, compression, filtering, interlaced = _HEADER.unpack(fields)
    if depth not in _DEPTHS.get(color, ()) or not width or not height or interlaced > 1:
        raise Damaged("its header makes no sense")
    if compression or filtering:
        raise Damaged("its compression or filtering is unknown")
    if color == PALETTE and (not palette or len(palette) % 3):
        raise Damaged("it has no palette" if not palette else "its palette is cut off")
    colors = np.frombuffer(palette if color == PALETTE else b"", dtype=np.uint8).reshape(-1, 3)
    header = Header(height, width, depth, color, bool(interlaced), colors)
    most = MOST_PIXELS // 2 if interlaced else MOST_PIXELS
    if height * width > most:
        raise Damaged(f"it claims {height} x {width} px, and more than {most} are not read")
    check_size(header, size)
    return header


def check_size(header: Header, size: int) -> None:
    """Refuses a header whose pixels cannot fit into ``size`` compressed bytes."""
    if header.num_bytes > _INFLATION * size:
        raise Damaged(f"it claims {header.height} x {header.width} px, which its {size} bytes cannot hold")


def pixel_chunks(file: BinaryIO, header: Header) -> Iterator[bytes]:
    """Yields the content of the chunks that hold the pixels; verifies the checksums of all chunks."""
    most = 2 * header.num_bytes + PIECE  # incompressible data grow by far less
    for number, (name, length) in enumerate(_chunks(file)):
        if name == b"IHDR" and number:
            raise Damaged("it has not one header, at its beginning")
        if name != b"IDAT":
            _content(file, name, length, 0)
        elif length > most:
            raise Damaged(f"its {header.height} x {header.width} px are in more bytes than they can be")
        else:
            most -= length
            yield _content(file, name, length, length)


def written(header: Header, deflated: bytes) -> bytes:
    """Returns a minimal PNG made of a header and of the content of its pixel chunks."""
    return b"".join([beginning(header), *pixel_chunk(deflated), END])


def beginning(header: Header) -> bytes:
    """Returns the bytes of a PNG before its pixels."""
    fields = _HEADER.pack(header.width, header.height, header.depth, header.color, 0, 0, header.interlaced)
    palette = _chunk(b"PLTE", header.palette.tobytes()) if header.color == PALETTE else ()
    return b"".join([_SIGNATURE, *_chunk(b"IHDR", fields), *palette])


def pixel_chunk(deflated: bytes) -> tuple[bytes, ...]:
    """Returns the parts of a chunk that holds pixels."""
    return _chunk(b"IDAT", deflated)


def _chunk(name: bytes, content: bytes) -> tuple[bytes, ...]:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)), name, content, struct.pack(">I", checksum)
