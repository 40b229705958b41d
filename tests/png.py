"""PNG files taken apart and put together, and a slow, strict decoder to compare with."""

import functools
import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks_of(png: bytes) -> list[tuple[bytes, bytes]]:
    position, chunks = 8, []
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        chunks.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    coded = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)


def grey_png(
    greys: np.ndarray, depth: int, palette: list[int] | None = None, others: list[tuple[bytes, bytes]] | None = None
) -> bytes:
    """Greys (H, W) of 8 bits as a program that makes PNGs smaller may write them.

    Args:
        greys: whatever fits into ``depth`` bits, or is in the palette.
        depth: bits of a sample.
        palette: the greys in the order of their numbers; None: no palette.
        others: chunks in front of the pixels.
    """
    samples = greys // (255 // (2**depth - 1)) if palette is None else np.vectorize(palette.index)(greys)
    bits = (samples[..., None] >> np.arange(depth)[::-1] & 1).reshape(len(greys), -1)
    rows = np.pad(np.packbits(bits.astype(np.uint8), axis=1), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", greys.shape[1], greys.shape[0], depth, 0 if palette is None else 3, 0, 0, 0)
    colors = [] if palette is None else [(b"PLTE", bytes(np.repeat(palette, 3).tolist()))]
    pixels = (b"IDAT", zlib.compress(rows.tobytes()))
    return png_of([(b"IHDR", header), *colors, *(others or []), pixels, (b"IEND", b"")])


def flip_bits(data: bytes, count: int, rng: np.random.Generator) -> bytes:
    flipped = bytearray(data)
    for position in rng.integers(len(data), size=count) if data else ():
        flipped[position] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


CHUNK_NAMES = b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sRGB sBIT pHYs tEXt zTXt iTXt eXIf acTL fcTL fdAT".split()


def damaged_bytes(png: bytes, rng: np.random.Generator) -> bytes:
    return flip_bits(png[: rng.integers(len(png))] if rng.random() < 0.2 else png, int(rng.integers(1, 4)), rng)


def damaged_chunks(png: bytes, rng: np.random.Generator) -> bytes:
    """Damage that the check sums do not show, as a bad program would write it."""
    chunks = chunks_of(png)
    chosen = int(rng.integers(len(chunks)))
    name, data = chunks[chosen]
    other = CHUNK_NAMES[rng.integers(len(CHUNK_NAMES))]
    change = rng.integers(5)
    if change == 0:
        chunks[chosen] = name, flip_bits(data, 1, rng)
    elif change == 1:
        chunks[chosen] = name, data[: rng.integers(len(data) + 1)]
    elif change == 2:
        chunks[chosen] = other, data
    elif change == 3:
        del chunks[chosen]
    else:
        chunks.insert(chosen, (other, rng.bytes(int(rng.integers(40)))))
    return png_of(chunks)


GREYS = {(0, 1), (0, 2), (0, 4), (0, 8), (3, 1), (3, 2), (3, 4), (3, 8)}
_CODINGS = {"image": {(2, 8)}, "class_ids": GREYS, "instance_ids": {(0, 16)} | GREYS, "disparity": {(0, 16)} | GREYS}
"""(colour type, bit depth) that each kind may have."""


@functools.lru_cache(1000)
def decode(png: bytes, kind: str) -> np.ndarray | None:
    """What a PNG without interlacing holds; None if it breaks a rule of the format or is not coded as its kind is."""
    try:
        chunks = _checked_chunks(png)
        names = [name for name, _ in chunks]
        width, height, depth, color, compression, filtering, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
        assert names[0] == b"IHDR"
        assert names[-1] == b"IEND"
        assert (color, depth) in _CODINGS[kind]
        assert (compression, filtering, interlaced) == (0, 0, 0)
        assert 0 < width * height < 10**6
        rows = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
        samples = width * (3 if color == 2 else 1)
        lines = _unfiltered(rows, height, -(-samples * depth // 8), max(1, depth // 8) * (3 if color == 2 else 1))
        if color == 2:
            return lines.reshape(height, width, 3)
        if depth == 16:
            return lines.view(">u2").astype(np.uint16)
        bits = np.unpackbits(lines, axis=1).reshape(height, -1, depth)
        values = (bits @ (1 << np.arange(depth)[::-1]))[:, :width]
        greys = values * 255 // (2**depth - 1) if color == 0 else _greys(dict(reversed(chunks))[b"PLTE"])[values]
        assert kind == "class_ids" or not greys.any()
    except (AssertionError, LookupError, ValueError, struct.error, zlib.error):
        return None
    return greys.astype(np.uint8 if kind == "class_ids" else np.uint16)


def _greys(palette: bytes) -> np.ndarray:
    colors = np.frombuffer(palette, dtype=np.uint8).reshape(-1, 3)
    assert (colors == colors[:, :1]).all()
    return colors[:, 0]


def _checked_chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    assert png.startswith(_SIGNATURE)
    position, chunks = 8, []
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        end = position + 8 + length
        (found,) = struct.unpack_from(">I", png, end)
        assert zlib.crc32(png[position + 4 : end]) == found
        chunks.append((png[position + 4 : position + 8], png[position + 8 : end]))
        position = end + 4
    return chunks


def _unfiltered(rows: bytes, height: int, stride: int, step: int) -> np.ndarray:
    """(height, stride) uint8; ``step`` is the distance of a byte from the one to its left."""
    assert len(rows) == height * (stride + 1)
    lines = np.zeros((height, stride), dtype=np.uint8)
    above = [0] * stride
    for y in range(height):
        method, *line = rows[y * (stride + 1) : (y + 1) * (stride + 1)]
        assert method < 5
        for x in range(stride):
            left, corner = (line[x - step], above[x - step]) if x >= step else (0, 0)
            guesses = 0, left, above[x], (left + above[x]) // 2, _paeth(left, above[x], corner)
            line[x] = (line[x] + guesses[method]) % 256
        lines[y] = above = line
    return lines


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))
