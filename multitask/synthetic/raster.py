"""Rasterisation of polygons to the face that each sample shows: painting within objects, a z-buffer between objects.

The raster has two samples per pixel along each axis plus one: the samples at odd rows and columns lie on the centres of
the pixels and become the labels, without blending; all samples together, filtered, become the picture.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from multitask.synthetic.projection import Faces


@dataclass(frozen=True)
class Raster:
    """The face that every sample shows; face f of `Faces` has the value f + 1, and 0 is the sky.

    Attributes:
        label: (2H + 1, 2W + 1) int32, the nearest face.
        picture: (2H + 1, 2W + 1) int32, the nearest face that is not sheer.
        disparity: (2H + 1, 2W + 1) float32, disparity of ``label``, px of the image; 0 for the sky.
    """

    label: np.ndarray
    picture: np.ndarray
    disparity: np.ndarray


def to_samples(coordinates: np.ndarray) -> np.ndarray:
    """Converts pixel coordinates (integers at the centres) to sample coordinates."""
    return 2.0 * coordinates + 1.0


def _paint(xy: list[int], starts: list[int], first: int, last: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Returns the face numbers plus one of an object within its box, 0 elsewhere."""
    image = Image.new("I", (box[2] - box[0], box[3] - box[1]))
    draw = ImageDraw.Draw(image)
    for face in range(first, last):
        draw.polygon(xy[starts[face] : starts[face + 1]], fill=face + 1)
    return np.asarray(image)


def _boxes(samples: np.ndarray, first: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns (objects, 4) int: left, top, right, bottom (exclusive) of each object's points, clipped to the raster."""
    low = np.maximum(np.minimum.reduceat(samples, first, axis=0), 0)
    high = np.minimum(np.maximum.reduceat(samples, first, axis=0) + 1, (shape[1], shape[0]))
    return np.concatenate([low, high], axis=1)


def rasterise(faces: Faces, size: tuple[int, int]) -> Raster:
    """Rasterises all faces.

    Args:
        faces: faces of the scene, object by object.
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
