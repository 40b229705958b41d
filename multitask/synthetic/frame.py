"""Rendering of one frame: (seed, split, index, size) -> picture and labels."""

from dataclasses import dataclass

import numpy as np

from multitask.data.layout import Camera
from multitask.errors import UserError
from multitask.synthetic.cities import CITIES, City, city
from multitask.synthetic.coding import CLASSES
from multitask.synthetic.fixtures import add_fixtures
from multitask.synthetic.ground import add_ground
from multitask.synthetic.imperfect import add_borders, bonnet, match
from multitask.synthetic.life import add_life
from multitask.synthetic.light import sample_weather, shade
from multitask.synthetic.projection import Faces, project
from multitask.synthetic.raster import Raster, rasterise
from multitask.synthetic.roadside import add_roadside
from multitask.synthetic.sensor import antialias, expose
from multitask.synthetic.stage import Stage
from multitask.synthetic.street import sample_street
from multitask.synthetic.textures import GLASS
from multitask.synthetic.traffic import add_traffic

SMALLEST, LARGEST = (32, 32), (1024, 2048)
"""Smallest and largest image size (H, W), px."""

_FRAME = 19
"""Number of the annotated frame of a sequence, as in Cityscapes."""


@dataclass(frozen=True)
class Scene:
    """One frame with its labels.

    Attributes:
        name: ``<city>_<seq>_<frame>``.
        image: (H, W, 3) uint8 RGB.
        class_ids: (H, W) uint8.
        instance_ids: (H, W) uint16, ``id * 1000 + k`` or the bare id.
        disparity: (H, W) float32, px, like the result of stereo matching: noisy, NaN where there is no match.
        exact_disparity: (H, W) float32, px, computed from the geometry; 0 for the sky.
        camera: camera of this frame.
    """

    name: str
    image: np.ndarray
    class_ids: np.ndarray
    instance_ids: np.ndarray
    disparity: np.ndarray
    exact_disparity: np.ndarray
    camera: Camera


def check_request(seed: int, split: str, size: tuple[int, int]) -> None:
    """Checks the seed, split and size (H, W) px of a frame.

    Raises:
        UserError: naming the argument, what was needed and what was found.
    """
    if seed < 0:
        raise UserError(f"data.seed: needed 0 or more, found {seed}")
    if split not in CITIES:
        raise UserError(f"split: needed one of {', '.join(CITIES)}, found {split!r}")
    if len(size) != 2 or not all(low <= n <= high for low, n, high in zip(SMALLEST, size, LARGEST, strict=True)):
        raise UserError(f"data.image_size: needed (H, W) from {SMALLEST} to {LARGEST} px, found {tuple(size)}")


def frame_name(split: str, index: int) -> str:
    """Returns the name of frame ``index`` of a split; the cities take turns."""
    cities = CITIES[split]
    return f"{cities[index % len(cities)]}_{index:06d}_{_FRAME:06d}"


def _camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """Returns Cityscapes' camera scaled to the image, with small random variations of its mounting."""
    camera = Camera(
        baseline=0.209313 + float(rng.normal(0, 0.002)),
        fx=2262.52,
        fy=2262.52,
        u0=1096.98 + float(rng.normal(0, 8.0)),
        v0=513.14 + float(rng.normal(0, 8.0)),
        x=1.7,
        y=0.1,
        z=1.22 + float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
        pitch=0.038 + float(np.clip(rng.normal(0, 0.022), -0.05, 0.05)),
    )
    return camera.scaled(size[1] / 2048, size[0] / 1024)


def _build(rng: np.random.Generator, place: City) -> Stage:
    stage = Stage(rng, place, sample_street(rng, place))
    add_ground(stage)
    add_traffic(stage)
    add_life(stage)
    add_roadside(stage)
    add_fixtures(stage)
    return stage


def _labels(faces: Faces, raster: Raster) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns class ids, instance ids, exact disparity and a mask of reflecting surfaces at the pixels' centres."""
    face = raster.label[1::2, 1::2]
    sky = CLASSES.class_id["sky"]
    class_ids = np.concatenate([[sky], faces.class_id]).astype(np.uint8)[face]
    instance_ids = np.concatenate([[sky], faces.instance_id]).astype(np.uint16)[face]
    a, b, c = np.concatenate([[[0.0, 0.0, 0.0]], faces.plane]).T
    height, width = face.shape
    exact = a[face] * np.arange(width) + b[face] * np.arange(height)[:, None] + c[face]
    glass = np.concatenate([[False], faces.material == GLASS])[face]
    return class_ids, instance_ids, exact.astype(np.float32), glass


def _paint_bonnet(samples: np.ndarray, seen: np.ndarray, tone: float) -> None:
    """Draws the ego vehicle into the samples, in place: paint with a reflection of the sky that fades downwards."""
    rows = np.linspace(0, 1, samples.shape[1], dtype=np.float32)[:, None]
    sheen = np.float32(tone) + np.float32(0.35) * np.clip(1 - (1 - rows) * 14, -1, 1) * -1
    samples[:, seen] = np.broadcast_to(np.clip(sheen, 0.03, 0.9), seen.shape)[seen]


def render(seed: int, split: str, index: int, size: tuple[int, int]) -> Scene:
    """Renders one frame; the result depends on the arguments only.

    Args:
        seed: seed of the data set.
        split: ``train``, ``val`` or ``test``.
        index: index of the frame in its split.
        size: (H, W) px; the scene does not depend on it.
    Raises:
        UserError: naming the argument, what was needed and what was found.
    """
    check_request(seed, split, size)
    if index < 0:
        raise UserError(f"index: needed 0 or more, found {index}")
    streams = np.random.SeedSequence([seed, list(CITIES).index(split), index]).spawn(4)
    content, mounting, looks, errors = (np.random.default_rng(stream) for stream in streams)
    name = frame_name(split, index)
    place = city(CITIES[split][index % len(CITIES[split])])
    camera = _camera(mounting, size)
    stage = _build(content, place)
    faces = project(stage.props, camera, size)
    raster = rasterise(faces, size)
    weather = sample_weather(looks)
    samples = shade(faces, raster, stage.props, camera, weather, looks)
    class_ids, instance_ids, exact, glass = _labels(faces, raster)
    seen, plane = bonnet(camera, size, place.bonnet[:2])
    _paint_bonnet(samples, seen, place.bonnet[2])
    ego = seen[1::2, 1::2]
    class_ids[ego], exact[ego] = CLASSES.class_id["ego vehicle"], plane[1::2, 1::2][ego]
    image = expose(antialias(samples), looks)
    disparity = match(exact, class_ids, glass, errors)
    add_borders(class_ids, image)
    void = class_ids < 4
    instance_ids[void] = class_ids[void]
    disparity[class_ids == CLASSES.class_id["rectification border"]] = np.nan
    return Scene(name, image, class_ids, instance_ids, disparity, exact, camera)
