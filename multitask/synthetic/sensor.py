"""Simulation of the camera, from light to an 8-bit image: antialiasing, lens, exposure, white balance, noise."""

import numpy as np


def antialias(samples: np.ndarray) -> np.ndarray:
    """Filters the raster's samples to pixels, (3, 2H + 1, 2W + 1) -> (3, H, W), by a tent centred on each pixel."""
    rows = samples[:, 0:-1:2] + 2 * samples[:, 1::2] + samples[:, 2::2]
    return np.asarray((rows[:, :, 0:-1:2] + 2 * rows[:, :, 1::2] + rows[:, :, 2::2]) * np.float32(1 / 16))


def _soften(image: np.ndarray, amount: float) -> np.ndarray:
    """Blends each pixel with the mean of its four neighbours, like a lens slightly out of focus."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return np.asarray(image * np.float32(1 - amount) + around * np.float32(amount / 4))


def expose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Converts the light of the pixels to the values that the camera stores.

    Args:
        image: (3, H, W) float32, about 0 to 1.
        rng: generator of the camera's settings, then of its noise.
    Returns:
        (H, W, 3) uint8.
    """
    blur, gain, balance, noise = (
        rng.uniform(0, 0.35),
        rng.uniform(0.75, 1.25),
        rng.normal(0, 0.05, 2),
        rng.uniform(0.006, 0.03),
    )
    contrast, fall = float(rng.uniform(0.0, 0.8)), float(rng.uniform(0.0, 0.25))
    height, width = image.shape[1:]
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    lens = np.float32(gain) * (1 - np.float32(fall / 2) * (x * x + y * y))
    channels = np.array([1 + balance[0], 1, 1 + balance[1]], dtype=np.float32)[:, None, None]
    light = np.clip(_soften(image, float(blur)) * lens * channels, 0, 1)
    # A cubic tone curve: more contrast in the middle, fixed ends.
    toned = light + np.float32(contrast) * light * (1 - light) * (light - np.float32(0.4))
    grain = rng.standard_normal((3, height, width), dtype=np.float32) * np.float32(noise)
    stored = np.clip((toned + grain) * 255, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(stored.transpose(1, 2, 0))
