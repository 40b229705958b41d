"""Polygons -> which face each pixel shows: painting inside an object, a z-buffer between objects.

The raster has two samples per pixel and direction plus one: the samples at odd rows and columns lie on the centres of
the pixels and become the labels, unblended; all of them together, filtered, become the picture.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from multitask.synthetic.projection import Faces


@dataclass(frozen=True)
class Raster:
    """What every sample shows; face f of `Faces` is f + 1, and 0 is the sky.

    Attributes:
        label: (2H + 1, 2W + 1) int32, the nearest face.
        picture: the same for the picture, which looks through sheer faces.
        disparity: float32, px of the image, of ``label``; 0 for the sky.
    """

    label: np.ndarray
    picture: np.ndarray
    disparity: np.ndarray


def to_samples(coordinates: np.ndarray) -> np.ndarray:
    """Pixel coordinates (whole numbers at the centres) -> sample coordinates."""
    return 2.0 * coordinates + 1.0


def _paint(xy: list[int], starts: list[int], first: int, last: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Face numbers (plus one) of one object inside its box, 0 where it is not."""
    image = Image.new("I", (box[2] - box[0], box[3] - box[1]))
    draw = ImageDraw.Draw(image)
    for face in range(first, last):
        draw.polygon(xy[starts[face] : starts[face + 1]], fill=face + 1)
    return np.asarray(image)


def _boxes(samples: np.ndarray, first: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(objects, 4) int: left, top, right, bottom (exclusive) of each object's points, inside the raster."""
    low = np.maximum(np.minimum.reduceat(samples, first, axis=0), 0)
    high = np.minimum(np.maximum.reduceat(samples, first, axis=0) + 1, (shape[1], shape[0]))
    return np.concatenate([low, high], axis=1)


def rasterise(faces: Faces, size: tuple[int, int]) -> Raster:
    """Draws all faces.

    Args:
        faces: of the scene, object by object.
        size: (H, W) of the image, px.
    """
    shape = (2 * size[0] + 1, 2 * size[1] + 1)
    label, disparity = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    xs = ((np.arange(shape[1]) - 1) / 2).astype(np.float32)
    ys = ((np.arange(shape[0]) - 1) / 2).astype(np.float32)[:, None]
    a, b, c = np.concatenate([[[0.0, 0.0, -1.0]], faces.plane]).T.astype(np.float32)
    objects = np.flatnonzero(np.diff(faces.prop, prepend=-1))
    ends = np.append(objects[1:], len(faces.prop))
    samples = np.rint(np.clip(to_samples(faces.xy), -1e6, 1e6)).astype(np.int64)
    boxes = _boxes(samples, faces.starts[objects], shape)
    owner = np.repeat(np.repeat(np.arange(len(objects)), ends - objects), faces.counts)
    xy = (samples - boxes[owner, :2]).ravel().tolist()
    starts = [*(2 * faces.starts).tolist(), len(xy)]
    sheer = np.concatenate([[False], faces.sheer])
    see_through = np.logical_or.reduceat(faces.sheer, objects)
    picture = label
    for k in np.argsort(see_through, kind="stable").tolist():
        x0, y0, x1, y1 = boxes[k].tolist()
        if see_through[k] and picture is label:
            picture = label.copy()
        if x0 >= x1 or y0 >= y1:
            continue
        index = _paint(xy, starts, int(objects[k]), int(ends[k]), (x0, y0, x1, y1))
        d = a.take(index) * xs[x0:x1] + (b.take(index) * ys[y0:y1] + c.take(index))
        nearer = d > disparity[y0:y1, x0:x1]
        np.copyto(disparity[y0:y1, x0:x1], d, where=nearer)
        np.copyto(label[y0:y1, x0:x1], index, where=nearer)
        if picture is not label:
            np.copyto(picture[y0:y1, x0:x1], index, where=nearer & ~sheer.take(index) if see_through[k] else nearer)
    return Raster(label, picture, disparity)
