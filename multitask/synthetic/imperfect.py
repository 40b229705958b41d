"""Imperfections of real labels: disparities without a match, the ego vehicle, and the borders of the picture."""

import numpy as np

from multitask.data.layout import Camera, decode_disparity, encode_disparity
from multitask.synthetic.coding import CLASSES
from multitask.synthetic.textures import SIDE, smooth_noise

_LARGEST = 128 / 2048
"""Largest disparity that the simulated matcher searches, as a share of the image's width."""

_NOISE = 0.25 / 2048
"""Standard deviation of the matcher's error, as a share of the image's width."""

_STEP = 16 / 2048
"""The matcher's sub-pixel step in 1/256 px, per px of the image's width (1/16 px at full size)."""


def occluded(disparity: np.ndarray) -> np.ndarray:
    """Finds the pixels that the right camera cannot see.

    A pixel x of the left image lies at x - d in the right one; it is hidden if some pixel further to the right lands
    there or left of it, or if it falls off the image's left edge. Occlusions are therefore to the left of near objects.

    Args:
        disparity: (H, W) float32, px, exact.
    Returns:
        (H, W) bool.
    """
    landing = np.arange(disparity.shape[1], dtype=np.float32) - disparity
    nearest = np.minimum.accumulate(landing[:, ::-1], axis=1)[:, ::-1]
    hidden = landing < 0
    hidden[:, :-1] |= nearest[:, 1:] <= landing[:, :-1]
    return np.asarray(hidden)


def _patches(rng: np.random.Generator, shape: tuple[int, int], cells: int, share: float) -> np.ndarray:
    """Returns smooth blotches that cover about ``share`` of the image and look alike at any resolution, (H, W) bool."""
    side = SIDE // 2
    noise = smooth_noise(rng, side, cells)
    place = int((1 - share) * noise.size)
    level = np.partition(noise.ravel(), place)[place]
    rows, columns = np.arange(shape[0]) * side // shape[0], np.arange(shape[1]) * side // shape[1]
    return np.asarray(noise[rows[:, None], columns] > level)


def match(exact: np.ndarray, class_ids: np.ndarray, glass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulates the disparity that stereo matching would give.

    Args:
        exact: (H, W) float32, px; 0 for the sky.
        class_ids: (H, W) uint8.
        glass: (H, W) bool, reflecting surfaces.
        rng: generator of the errors.
    Returns:
        (H, W) float32 px, a multiple of 1/256; NaN without a match.
    """
    height, width = exact.shape
    error = smooth_noise(rng, SIDE, 32)[np.arange(height)[:, None] % SIDE, np.arange(width) % SIDE]
    error = error + rng.standard_normal((height, width), dtype=np.float32)
    step = max(1, round(_STEP * width)) / 256
    measured = np.round((exact + np.float32(_NOISE * width) * error) / np.float32(step)) * np.float32(step)
    lost = occluded(exact) | (exact > _LARGEST * width)
    lost |= _patches(rng, exact.shape, 32, 0.02) | (_patches(rng, exact.shape, 64, 0.2) & glass)
    lost |= rng.random((height, width), dtype=np.float32) < np.float32(0.012)
    sky = class_ids == CLASSES.sky_id
    # Small false matches in the sky.
    lost = np.where(sky, ~_patches(rng, exact.shape, 16, 0.06), lost)
    measured = np.where(sky, np.float32(width / 2048) * 4 * (1 + np.abs(error)), measured)
    return decode_disparity(encode_disparity(np.where(lost | (measured <= 0), np.float32(np.nan), measured)))


def bonnet(camera: Camera, size: tuple[int, int], shape: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Computes the ego vehicle's bonnet at the bottom of the picture.

    Args:
        camera: camera of the image.
        size: (H, W) of the image, px.
        shape: height (share of H) and width (share of W) of the bonnet.
    Returns:
        Its mask on the raster's samples, (2H + 1, 2W + 1) bool, and the disparity of its plane, float32 px.
    """
    height, width = size
    x = ((np.arange(2 * width + 1) - 1) / 2 - (width - 1) / 2) / (width / 2 * shape[1])
    y = ((np.arange(2 * height + 1) - 1) / 2)[:, None]
    edge = height * (1 - shape[0] * (1 - 0.55 * x * x * x * x))
    # The bonnet is a plane 0.36 m below the camera, to which it is fixed.
    disparity = camera.baseline * camera.fx * (y - camera.v0) / camera.fy / 0.36
    seen = (y >= edge) & (np.abs(x) <= 1)
    return seen, np.broadcast_to(disparity, seen.shape).astype(np.float32)


def add_borders(class_ids: np.ndarray, image: np.ndarray) -> None:
    """Marks, in place, the dark border left by rectification and the area outside of the region of interest."""
    height, width = class_ids.shape
    frame = max(1, round(width * 0.004))
    beyond_x, beyond_y = frame + max(1, round(width * 0.006)), frame + max(1, round(height * 0.008))
    inner = np.zeros(class_ids.shape, dtype=bool)
    inner[frame:-beyond_y, beyond_x:-beyond_x] = True
    outer = np.zeros(class_ids.shape, dtype=bool)
    outer[frame:-frame, frame:-frame] = True
    class_ids[~inner & (class_ids != CLASSES.class_id["ego vehicle"])] = CLASSES.class_id["out of roi"]
    class_ids[~outer] = CLASSES.class_id["rectification border"]
    image[~outer] = image[~outer] // 12
