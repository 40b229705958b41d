"""Surface patterns and the materials that use them.

A pattern is a periodic 256 x 256 table of brightness changes, in which each pixel is looked up by the world position
that it shows: patterns lie on their surfaces in perspective and cost one look-up per pixel.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SIDE = 256
"""Side of a pattern in texels, a power of two."""


@dataclass(frozen=True)
class Material:
    """Texture of a surface.

    Attributes:
        pattern: index into `patterns`.
        across, along: texels per m, horizontally, and vertically or on the ground forwards.
        contrast: fraction by which brightness changes at most, approximately.
        ground: whether the surface lies flat and receives cast shadows.
    """

    pattern: int
    across: float
    along: float
    contrast: float
    ground: bool = False


_FLAT, _GRAIN, _STAIN, _BRICK, _LEAVES, _BOARDS, _TILES, _GRASS, _REFLECTION = range(9)

PLAIN, ASPHALT, PAVING, SLABS, LAWN, PLASTER, BRICKS, BLOCKS, BOARDS, FOLIAGE, GLASS, METAL, CLOTH, GLOW, SOIL = range(
    15
)

MATERIALS: tuple[Material, ...] = (
    Material(_STAIN, 40.0, 40.0, 0.06),
    Material(_GRAIN, 24.0, 16.0, 0.16, ground=True),
    Material(_BRICK, 40.0, 24.0, 0.22, ground=True),
    Material(_TILES, 24.0, 24.0, 0.20, ground=True),
    Material(_GRASS, 30.0, 12.0, 0.42, ground=True),
    Material(_STAIN, 18.0, 14.0, 0.16),
    Material(_BRICK, 50.0, 60.0, 0.26),
    Material(_TILES, 30.0, 36.0, 0.22),
    Material(_BOARDS, 44.0, 20.0, 0.30),
    Material(_LEAVES, 42.0, 42.0, 0.85),
    Material(_REFLECTION, 26.0, 34.0, 0.70),
    Material(_REFLECTION, 14.0, 40.0, 0.20),
    Material(_STAIN, 90.0, 90.0, 0.30),
    Material(_FLAT, 1.0, 1.0, 0.0),
    Material(_STAIN, 22.0, 10.0, 0.38, ground=True),
)
"""Materials by the numbers above."""


def smooth_noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Returns periodic noise, (side, side) float32 in about -1 to 1, bilinear between ``cells`` x ``cells`` values."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    position = np.arange(side) * cells / side
    low = position.astype(np.int64)
    share = (position - low).astype(np.float32)
    high = (low + 1) % cells
    rows = grid[low] * (1 - share)[:, None] + grid[high] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, high] * share


def _octaves(rng: np.random.Generator, first: int, last: int) -> np.ndarray:
    total = np.zeros((SIDE, SIDE), dtype=np.float32)
    cells, weight = first, 1.0
    while cells <= last:
        total += np.float32(weight) * smooth_noise(rng, SIDE, cells)
        cells, weight = cells * 2, weight * 0.75
    return np.asarray(total / np.abs(total).max(), dtype=np.float32)


def _bricks(rng: np.random.Generator, width: int, height: int, shifted: bool) -> np.ndarray:
    """Returns bricks or tiles of slightly different brightness with dark joints, (256, 256) float32."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    row = y // height
    moved = x + (row % 2) * (width // 2 if shifted else 0)
    tone = rng.uniform(-0.6, 0.6, (SIDE // height + 1, SIDE // width + 1))
    pattern = tone[row, (moved % SIDE) // width]
    joint = (y % height == 0) | (moved % width == 0)
    return np.where(joint, -1.0, pattern).astype(np.float32)


@lru_cache(maxsize=1)
def patterns() -> np.ndarray:
    """Returns all patterns, (9, 256, 256) float32 in -1 to 1; the same in every process."""
    rng = np.random.default_rng(20180519)
    boards = np.repeat(rng.uniform(-1, 1, (1, SIDE // 8)), 8, axis=1) * np.ones((SIDE, 1))
    boards[:, ::8] = -1.0
    reflection = np.clip(_octaves(rng, 4, 16) * 3, -1, 1)
    leaves = 0.5 * _octaves(rng, 16, 128) + 0.8 * np.sign(_octaves(rng, 32, 64)) * rng.uniform(0.3, 1, (SIDE, SIDE))
    return np.stack(
        [
            np.zeros((SIDE, SIDE)),
            0.5 * rng.uniform(-1, 1, (SIDE, SIDE)) + 0.6 * _octaves(rng, 4, 32),
            _octaves(rng, 4, 64),
            _bricks(rng, 16, 8, True),
            leaves,
            boards + 0.3 * _octaves(rng, 4, 64),
            _bricks(rng, 16, 16, False),
            0.7 * _octaves(rng, 8, 128) + 0.4 * rng.uniform(-1, 1, (SIDE, SIDE)),
            reflection,
        ]
    ).astype(np.float32)
