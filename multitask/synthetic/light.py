"""Weather and light of a scene: sun, sky, haze, cast shadows, and the resulting colour of every raster sample."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from multitask.data.layout import Camera
from multitask.synthetic.projection import NEAR, Faces
from multitask.synthetic.raster import Raster
from multitask.synthetic.stage import Prop
from multitask.synthetic.textures import GLOW, MATERIALS, SIDE, patterns, smooth_noise

_FADE = 18.0
"""Distance at which textures have half their contrast, m."""


@dataclass(frozen=True)
class Weather:
    """Weather and light of one scene.

    Attributes:
        sun: (3,) unit vector towards the sun (x right, y up, z forward).
        ambient, direct: strength of the sky's and the sun's light on a white surface.
        shadow: share of light that a cast shadow removes.
        haze: distance at which half of a colour is haze, m.
        haze_color: (3,) RGB.
        zenith, horizon: (3,) RGB of the sky.
        clouds: contrast of the clouds.
        contrast: factor of the textures' contrast.
    """

    sun: tuple[float, float, float]
    ambient: float
    direct: float
    shadow: float
    haze: float
    haze_color: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    contrast: float


def sample_weather(rng: np.random.Generator) -> Weather:
    """Draws clouds or sunshine, the sun's position and the haze."""
    azimuth, height = float(rng.uniform(-math.pi, math.pi)), float(rng.uniform(0.25, 1.1))
    sunny = float(rng.random())
    white = float(rng.uniform(0.62, 0.97))
    blue = np.array([0.38, 0.56, 0.86]) * float(rng.uniform(0.7, 1.1))
    warm = np.array([1.0, 0.93, 0.84]) if rng.random() < 0.3 else np.ones(3)
    overcast = np.full(3, white) * np.array([0.97, 0.99, 1.02])
    horizon = np.clip((0.7 * overcast + 0.3 * blue) * warm, 0, 1)
    return Weather(
        sun=(math.cos(height) * math.sin(azimuth), math.sin(height), math.cos(height) * math.cos(azimuth)),
        ambient=0.88 - 0.35 * sunny,
        direct=0.15 + 0.75 * sunny,
        shadow=0.05 + 0.55 * sunny,
        haze=float(rng.uniform(90.0, 900.0)),
        haze_color=horizon * 0.9,
        zenith=np.clip((1 - sunny) * overcast + sunny * blue, 0, 1),
        horizon=horizon,
        clouds=float(rng.uniform(0.0, 0.35)),
        contrast=float(rng.uniform(0.7, 1.3)),
    )


def face_colors(faces: Faces, weather: Weather) -> np.ndarray:
    """Returns (3, F + 1) float32: colour of each face f at index f + 1 under this light; index 0, the sky, is 0."""
    facing = sum(faces.normal[:, k] * weather.sun[k] for k in range(3))
    upwards = 0.8 + 0.2 * faces.normal[:, 1]
    light = weather.ambient * upwards + weather.direct * np.maximum(facing, 0.0)
    light = np.where(faces.material == GLOW, 1.1, light)
    table = np.zeros((3, len(light) + 1), dtype=np.float32)
    table[:, 1:] = faces.color.T * light
    return table


def _to_ground(x: np.ndarray, z: np.ndarray, height: np.ndarray, camera: Camera) -> np.ndarray:
    """Projects points at a height to sample coordinates (..., 2); points behind the camera are moved in front of it."""
    down = camera.z - height
    depth = np.maximum(z * math.cos(camera.pitch) + down * math.sin(camera.pitch), NEAR)
    y = camera.v0 + camera.fy * (down * math.cos(camera.pitch) - z * math.sin(camera.pitch)) / depth
    return np.stack([2 * (camera.u0 + camera.fx * x / depth) + 1, 2 * y + 1], axis=-1)


def _shadow_corners(props: list[Prop], weather: Weather, grow: float) -> np.ndarray:
    """Returns (N, 8, 3): x, z and height of the footprints' four corners and of their tops' shadows."""
    prints = [(p, p.footprint) for p in props if p.footprint]
    rows = np.array(
        [
            (*p.position, math.cos(p.heading), math.sin(p.heading), f.half_width, f.half_length, f.height, f.x, f.z)
            for p, f in prints
        ]
    )
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    x = rows[:, 8, None] + signs[:, 0] * (rows[:, 5, None] + grow)
    z = rows[:, 9, None] + signs[:, 1] * (rows[:, 6, None] + grow)
    cos, sin = rows[:, 3, None], rows[:, 4, None]
    base = np.stack([rows[:, 0, None] + x * cos + z * sin, rows[:, 2, None] - x * sin + z * cos], axis=-1)
    reach = -rows[:, 7] / weather.sun[1]
    shift = np.stack([reach * weather.sun[0], reach * weather.sun[2]], axis=-1)[:, None]
    corners = np.concatenate([base, base + shift], axis=1)
    height = np.broadcast_to(rows[:, 1, None, None], (*corners.shape[:2], 1))
    return np.concatenate([corners, height], axis=-1)


def shadows(props: list[Prop], camera: Camera, weather: Weather, shape: tuple[int, int]) -> np.ndarray:
    """Returns the share of light that reaches the ground, (rows, columns) float32 for the raster's samples."""
    image = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    sides = ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
    for grow, level, count in ((0.0, int(255 * weather.shadow), 6), (0.12, 150, 1)):
        corners = _shadow_corners(props, weather, grow)
        samples = _to_ground(corners[..., 0], corners[..., 1], corners[..., 2], camera)
        ahead = corners[..., 1].max(axis=1) > 1.0
        for points in np.rint(np.clip(samples[ahead], -30000, 30000)).astype(np.int64).tolist():
            for side in sides[:count]:
                draw.polygon([value for k in side for value in points[k]], fill=level)
    image = image.filter(ImageFilter.BoxBlur(shape[1] / 400))
    return (255 - np.asarray(image).astype(np.float32)) / np.float32(255)


def _texture(faces: Faces, raster: Raster, camera: Camera, weather: Weather, rng: np.random.Generator) -> np.ndarray:
    """Returns the brightness factor of every sample from its surface's pattern, (rows, columns) float32."""
    rows, columns = raster.picture.shape
    material = np.concatenate([[GLOW], faces.material])[raster.picture]
    shift = np.concatenate([[0], rng.integers(0, SIDE, int(faces.prop.max()) + 1)[faces.prop]])[raster.picture]
    table = np.array([(m.pattern, m.across, m.along, m.contrast, m.ground) for m in MATERIALS], dtype=np.float32)
    depth = np.float32(camera.baseline * camera.fx) / np.maximum(raster.disparity, np.float32(0.01))
    tangent_x = ((np.arange(columns) - 1) / 2 - camera.u0) / camera.fx
    tangent_y = ((np.arange(rows) - 1) / 2 - camera.v0) / camera.fy
    cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
    x = depth * tangent_x.astype(np.float32)
    forward = depth * (cos - tangent_y * sin).astype(np.float32)[:, None]
    down = depth * (tangent_y * cos + sin).astype(np.float32)[:, None]
    ground = table[:, 4].astype(bool)[material]
    u = table[:, 1][material] * np.where(ground, x, x + np.float32(0.618) * forward)
    v = table[:, 2][material] * np.where(ground, forward, down)
    texel = ((v.astype(np.int32) + shift) & (SIDE - 1)) * SIDE + ((u.astype(np.int32) + 7 * shift) & (SIDE - 1))
    value = patterns().reshape(-1).take(table[:, 0].astype(np.int32)[material] * SIDE * SIDE + texel)
    fade = np.float32(weather.contrast * _FADE) / (depth + np.float32(_FADE))
    return np.asarray(1 + value * table[:, 3][material] * fade)


def _sky(shape: tuple[int, int], camera: Camera, weather: Weather, rng: np.random.Generator) -> np.ndarray:
    """Returns the sky, (3, rows, columns) float32: a gradient from the horizon upwards with clouds."""
    noise = smooth_noise(rng, SIDE, 4) + 0.5 * smooth_noise(rng, SIDE, 16)
    rows = (np.arange(shape[0]) * SIDE // shape[0]) * 2 % SIDE
    clouds = noise[rows[:, None], np.arange(shape[1]) * SIDE // shape[1]]
    horizon = camera.v0 - camera.fy * math.tan(camera.pitch)
    up = np.clip((horizon - (np.arange(shape[0]) - 1) / 2) / (0.2 * camera.fy), 0, 1).astype(np.float32)[:, None]
    colors = [
        np.float32(h) * (1 - up) + np.float32(z) * up for h, z in zip(weather.horizon, weather.zenith, strict=True)
    ]
    return np.stack([color + np.float32(weather.clouds) * clouds for color in colors])


def shade(
    faces: Faces, raster: Raster, props: list[Prop], camera: Camera, weather: Weather, rng: np.random.Generator
) -> np.ndarray:
    """Returns the colour of every sample, (3, rows, columns) float32 RGB, mostly in 0 to 1."""
    shape = raster.picture.shape
    factor = _texture(faces, raster, camera, weather, rng)
    ground = np.concatenate([[False], np.array([m.ground for m in MATERIALS])[faces.material]])[raster.picture]
    np.multiply(factor, shadows(props, camera, weather, shape), out=factor, where=ground)
    table = face_colors(faces, weather)
    image = np.stack([channel.take(raster.picture) for channel in table]) * factor
    reach = np.float32(camera.baseline * camera.fx)
    clear = np.float32(weather.haze) * raster.disparity / (reach + np.float32(weather.haze) * raster.disparity)
    haze = weather.haze_color.astype(np.float32)[:, None, None]
    image = haze + (image - haze) * clear
    return np.where(raster.picture == 0, _sky(shape, camera, weather, rng), image)
