"""Invented cities, each with its own colours and its own style of streets."""

from bisect import bisect
from dataclasses import dataclass
from functools import cache

import numpy as np

CITIES: dict[str, tuple[str, ...]] = {
    "train": ("arvenholm", "brastadt", "corvalle", "dunmarsk", "elverau", "fenwyck", "gralheim", "hestrava"),
    "val": ("kestrelau", "lumbrick", "morvane"),
    "test": ("nidarau", "quellmar", "rostelin", "sundbrunn"),
}
"""Cities of each split; no city is in two splits."""

Color = tuple[float, float, float]

_FACADES: tuple[Color, ...] = (
    (0.78, 0.74, 0.66), (0.70, 0.62, 0.50), (0.60, 0.36, 0.28), (0.85, 0.83, 0.80), (0.55, 0.53, 0.52),
    (0.80, 0.68, 0.45), (0.62, 0.66, 0.68), (0.72, 0.55, 0.50), (0.45, 0.42, 0.40), (0.66, 0.72, 0.62),
    (0.50, 0.30, 0.26), (0.58, 0.62, 0.72), (0.88, 0.80, 0.62), (0.40, 0.46, 0.44),
)  # fmt: skip
_PAINTS: tuple[Color, ...] = (
    (0.12, 0.12, 0.13), (0.30, 0.31, 0.32), (0.55, 0.56, 0.58), (0.75, 0.76, 0.77), (0.90, 0.90, 0.89),
    (0.12, 0.18, 0.38), (0.20, 0.36, 0.62), (0.55, 0.10, 0.10), (0.72, 0.18, 0.12), (0.14, 0.30, 0.20),
    (0.45, 0.40, 0.32), (0.85, 0.70, 0.15), (0.62, 0.58, 0.50), (0.35, 0.12, 0.16), (0.70, 0.42, 0.16),
)  # fmt: skip
_CLOTHES: tuple[Color, ...] = (
    (0.10, 0.10, 0.12), (0.20, 0.22, 0.28), (0.22, 0.28, 0.42), (0.45, 0.42, 0.38), (0.62, 0.60, 0.58),
    (0.85, 0.84, 0.82), (0.60, 0.14, 0.14), (0.18, 0.34, 0.24), (0.72, 0.60, 0.22), (0.46, 0.26, 0.40),
    (0.30, 0.22, 0.16), (0.24, 0.44, 0.62), (0.78, 0.42, 0.24),
)  # fmt: skip
_LEAVES: tuple[Color, ...] = (
    (0.22, 0.32, 0.14), (0.30, 0.38, 0.16), (0.36, 0.42, 0.22), (0.26, 0.34, 0.22), (0.46, 0.42, 0.18),
    (0.50, 0.34, 0.16), (0.34, 0.28, 0.20), (0.20, 0.28, 0.20),
)  # fmt: skip
_GROUNDS: tuple[Color, ...] = (
    (0.34, 0.34, 0.35), (0.42, 0.41, 0.40), (0.50, 0.49, 0.47), (0.28, 0.28, 0.30), (0.48, 0.44, 0.40),
    (0.56, 0.54, 0.52), (0.44, 0.38, 0.35), (0.38, 0.40, 0.43),
)  # fmt: skip
_LAWNS: tuple[Color, ...] = (
    (0.34, 0.42, 0.20), (0.42, 0.46, 0.24), (0.52, 0.48, 0.28), (0.44, 0.38, 0.26), (0.28, 0.36, 0.18),
    (0.56, 0.50, 0.36), (0.40, 0.36, 0.30),
)  # fmt: skip
_SKIN: tuple[Color, ...] = ((0.82, 0.64, 0.54), (0.72, 0.52, 0.42), (0.52, 0.36, 0.28), (0.36, 0.25, 0.20))
_HAIR: tuple[Color, ...] = ((0.10, 0.09, 0.08), (0.28, 0.20, 0.14), (0.55, 0.44, 0.28), (0.62, 0.60, 0.58))
_SIGNALS: tuple[Color, ...] = (
    (0.76, 0.12, 0.12), (0.12, 0.26, 0.62), (0.90, 0.90, 0.88), (0.88, 0.74, 0.12), (0.12, 0.42, 0.26),
    (0.30, 0.30, 0.32),
)  # fmt: skip

PALETTES: dict[str, tuple[Color, ...]] = {
    "facade": _FACADES,
    "paint": _PAINTS,
    "cloth": _CLOTHES,
    "leaf": _LEAVES,
    "ground": _GROUNDS,
    "lawn": _LAWNS,
    "skin": _SKIN,
    "hair": _HAIR,
    "signal": _SIGNALS,
}
"""Base colours by palette, RGB in 0 to 1; the palettes overlap on purpose."""


@dataclass(frozen=True)
class City:
    """Colours and style of a city.

    Attributes:
        name: name for files.
        weights: cumulative probabilities of the colours of each palette; the last is 1.
        tint: colour cast of the scene, a factor per RGB channel.
        rows: relative frequency of closed rows of houses along the roads.
        green: relative frequency of gardens, parks and verges.
        bounded: relative frequency of walls and fences.
        sidewalk: probability that a street has sidewalks.
        lane: usual lane width, m.
        lanes: usual number of lanes per direction.
        storeys: usual number of storeys.
        traffic, people, cycling: factors of the numbers of road users.
        rails: probability of tram rails.
        bonnet: height and width of the ego vehicle's bonnet, as shares of the image's, and its brightness, 0 to 1.
    """

    name: str
    weights: dict[str, tuple[float, ...]]
    tint: Color
    rows: float
    green: float
    bounded: float
    sidewalk: float
    lane: float
    lanes: float
    storeys: float
    traffic: float
    people: float
    cycling: float
    rails: float
    bonnet: tuple[float, float, float]

    def color(self, rng: np.random.Generator, palette: str, jitter: float = 0.06) -> np.ndarray:
        """Draws a colour of a palette with this city's frequencies, (3,) float64 RGB in 0 to 1."""
        colors = PALETTES[palette]
        # Drawn without Generator.choice, which would take several ms for the hundreds of colours of a frame.
        *noise, draw = rng.random(5).tolist()
        base = colors[min(bisect(self.weights[palette], draw), len(colors) - 1)]
        bright = 1 + 2 * jitter * (2 * noise[3] - 1)
        values = [c * t * bright + jitter * (2 * n - 1) for c, t, n in zip(base, self.tint, noise, strict=False)]
        return np.array([min(max(value, 0.02), 0.98) for value in values])


@cache
def city(name: str) -> City:
    """Returns the city called ``name``, which does not depend on the data set's seed."""
    rng = np.random.default_rng(list(name.encode()))
    weights = {}
    for palette, colors in PALETTES.items():
        share = rng.uniform(0.15, 1.0, len(colors)) ** 2
        weights[palette] = tuple(np.cumsum(share / share.sum()).tolist())
    return City(
        name=name,
        weights=weights,
        tint=(float(rng.uniform(0.93, 1.07)), float(rng.uniform(0.93, 1.07)), float(rng.uniform(0.93, 1.07))),
        rows=float(rng.uniform(0.4, 0.75)),
        green=float(rng.uniform(0.25, 0.5)),
        bounded=float(rng.uniform(0.25, 0.5)),
        sidewalk=float(rng.uniform(0.75, 0.95)),
        lane=float(rng.uniform(2.8, 3.6)),
        lanes=float(rng.uniform(1.0, 1.8)),
        storeys=float(rng.uniform(2.8, 5.0)),
        traffic=float(rng.uniform(0.7, 1.3)),
        people=float(rng.uniform(0.7, 1.4)),
        cycling=float(rng.uniform(0.7, 1.5)),
        rails=float(rng.uniform(0.1, 0.3)),
        bonnet=(float(rng.uniform(0.05, 0.10)), float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.05, 0.6))),
    )
