"""Projection of all props of a scene at once to polygons in the picture, each with its disparity plane.

In the image of a rectified camera the disparity of a planar surface is an affine function of the pixel,
``d(x, y) = a x + b y + c``, which is exact and cheap enough to evaluate for every pixel of every surface.
"""

import math
from dataclasses import dataclass

import numpy as np

from multitask.data.layout import Camera
from multitask.synthetic.stage import Prop

NEAR = 0.4
"""Distance of the near clipping plane, m."""

_EDGE_ON = 0.8
"""Distance below which a plane passes so close to the camera that it may be seen edge-on, m."""

_PART_LIMIT = 32
"""Exclusive upper limit of a mesh's part numbers."""


@dataclass(frozen=True)
class Faces:
    """The visible polygons of a scene in painting order, object by object.

    Attributes:
        xy: (V, 2) float64, corners (x, y), px of the image.
        starts, counts: (F,) index of each face's first corner and number of its corners.
        plane: (F, 3) float64, coefficients a, b, c of the disparity in px.
        normal: (F, 3) float64, unit normal towards the camera's side, in world axes (x right, y up, z forward).
        color: (F, 3) RGB in 0 to 1.
        material, prop: (F,) index into `textures.MATERIALS`, and number of the object.
        class_id, instance_id: (F,) labels.
        sheer: (F,) bool, see `Mesh`.
    """

    xy: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    plane: np.ndarray
    normal: np.ndarray
    color: np.ndarray
    material: np.ndarray
    prop: np.ndarray
    class_id: np.ndarray
    instance_id: np.ndarray
    sheer: np.ndarray


@dataclass
class _Soup:
    """Faces of the scene with points relative to the camera, in world axes; ``source`` numbers them among all faces."""

    points: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    source: np.ndarray


def _gather(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the indices of the points of the given faces, face by face."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


def _world_points(props: list[Prop], sizes: np.ndarray, eye: float) -> np.ndarray:
    """Returns the points of all props, (V, 3), relative to the camera; bars are turned to show their broad side."""
    local = np.concatenate([p.mesh.points for p in props])
    axes = np.concatenate([p.mesh.axes for p in props])
    side = np.concatenate([p.mesh.side for p in props])
    which = np.repeat(np.arange(len(props)), sizes)
    place = np.array([(*p.position, math.cos(p.heading), math.sin(p.heading), *p.scale) for p in props])[which]
    cos, sin, scale = place[:, 3], place[:, 4], place[:, 5:8]
    local = local * scale
    points = np.empty_like(local)
    points[:, 0] = place[:, 0] + local[:, 0] * cos + local[:, 2] * sin
    points[:, 1] = place[:, 1] + local[:, 1] - eye
    points[:, 2] = place[:, 2] - local[:, 0] * sin + local[:, 2] * cos
    bars = np.flatnonzero(side)
    axis, cos, sin = axes[bars], cos[bars], sin[bars]
    ax, ay, az = axis[:, 0] * cos + axis[:, 2] * sin, axis[:, 1], axis[:, 2] * cos - axis[:, 0] * sin
    vx, vy, vz = points[bars].T
    across = np.stack([ay * vz - az * vy, az * vx - ax * vz, ax * vy - ay * vx], axis=1)
    length = np.sqrt((across * across).sum(axis=1))
    points[bars] += across * (side[bars] * scale[bars, 0] / np.maximum(length, 1e-9))[:, None]
    return points


def _normals(soup: _Soup) -> np.ndarray:
    """Returns the normal of each face by Newell's formula, (F, 3), not normalised."""
    first = np.repeat(soup.points[soup.starts], soup.counts, axis=0)
    relative = soup.points - first
    after = np.arange(1, len(relative) + 1)
    after[soup.starts + soup.counts - 1] = soup.starts
    x, y, z = relative.T
    u, v, w = relative[after].T
    cross = np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)
    return np.asarray(np.add.reduceat(cross, soup.starts, axis=0))


def _select(soup: _Soup, keep: np.ndarray) -> _Soup:
    """Returns the selected faces, with their points packed face by face."""
    starts, counts = soup.starts[keep], soup.counts[keep]
    points = soup.points[_gather(starts, counts)]
    return _Soup(points, np.cumsum(counts) - counts, counts, soup.source[keep])


def _clip_polygon(points: list[list[float]], depth: list[float]) -> list[list[float]]:
    """Clips a polygon to depths of at least `NEAR` (Sutherland and Hodgman's algorithm for one plane)."""
    kept = []
    for k, point in enumerate(points):
        before, d0, d1 = points[k - 1], depth[k - 1] - NEAR, depth[k] - NEAR
        if (d0 > 0) != (d1 > 0):
            t = d0 / (d0 - d1)
            kept.append([a + t * (b - a) for a, b in zip(before, point, strict=True)])
        if d1 > 0:
            kept.append(point)
    return kept


def _clip(soup: _Soup, depth: np.ndarray) -> _Soup:
    """Clips the faces that reach behind the near plane."""
    crossing = np.flatnonzero(np.minimum.reduceat(depth, soup.starts) < NEAR)
    if not len(crossing):
        return soup
    starts, counts = soup.starts.copy(), soup.counts.copy()
    extra: list[list[float]] = []
    for f in crossing:
        span = slice(starts[f], starts[f] + counts[f])
        kept = _clip_polygon(soup.points[span].tolist(), depth[span].tolist())
        starts[f], counts[f] = len(soup.points) + len(extra), len(kept)
        extra += kept
    points = np.concatenate([soup.points, np.array(extra).reshape(-1, 3)])
    return _select(_Soup(points, starts, counts, soup.source), np.flatnonzero(counts >= 3))


def _planes(soup: _Soup, normal: np.ndarray, camera: Camera, depth: np.ndarray) -> np.ndarray:
    """Returns the disparity plane of each face, (F, 3).

    A face that is seen edge-on and thinner than a pixel along its steepest slope gets its mean disparity, since its
    plane could have any value at the pixel's centre. A plane counts as edge-on if it passes close to the camera, which
    the ground never does.
    """
    cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
    # Camera axes: x right, y down, z forward, the camera looking down by its pitch.
    nx, ny, nz = normal[:, 0], -normal[:, 1] * cos - normal[:, 2] * sin, normal[:, 2] * cos - normal[:, 1] * sin
    offset = (normal * soup.points[soup.starts]).sum(axis=1)
    scale = camera.baseline * camera.fx / np.where(np.abs(offset) < 1e-9, 1e-9, offset)
    a, b = scale * nx / camera.fx, scale * ny / camera.fy
    plane = np.stack([a, b, scale * nz - a * camera.u0 - b * camera.v0], axis=1)
    disparity = camera.baseline * camera.fx / depth
    span = np.maximum.reduceat(disparity, soup.starts) - np.minimum.reduceat(disparity, soup.starts)
    thin = np.abs(offset) < _EDGE_ON * np.sqrt((normal * normal).sum(axis=1))
    thin &= np.abs(a) + np.abs(b) > span + 1e-9
    mean = np.add.reduceat(disparity, soup.starts) / soup.counts
    plane[thin, :2], plane[thin, 2] = 0.0, mean[thin]
    return plane


def _columns(props: list[Prop]) -> dict[str, np.ndarray]:
    """Returns the attributes of all faces of all props."""
    faces = np.array([len(p.mesh.counts) for p in props])
    prop = np.repeat(np.arange(len(props)), faces)
    slots, owners = np.array([len(p.colors) for p in props]), np.array([len(p.labels) for p in props])
    first_slot, first_owner = np.cumsum(slots) - slots, np.cumsum(owners) - owners
    labels = np.array([label for p in props for label in p.labels])
    columns = {
        name: np.concatenate([getattr(p.mesh, name) for p in props])
        for name in ("slot", "owner", "layer", "part", "material", "culled", "sheer")
    }
    label = labels[columns["owner"] + first_owner[prop]]
    color = np.concatenate([p.colors for p in props])[columns["slot"] + first_slot[prop]]
    return columns | {"prop": prop, "class_id": label[:, 0], "instance_id": label[:, 1], "color": color}


def _soup(props: list[Prop], eye: float) -> _Soup:
    sizes = np.array([len(p.mesh.points) for p in props])
    offset = np.repeat(np.cumsum(sizes) - sizes, [len(p.mesh.counts) for p in props])
    starts = np.concatenate([p.mesh.starts for p in props]) + offset
    counts = np.concatenate([p.mesh.counts for p in props])
    return _Soup(_world_points(props, sizes, eye), starts, counts, np.arange(len(starts)))


def _order(columns: dict[str, np.ndarray], source: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Returns the painting order: by object, by part from far to near, by layer, then from far to near."""
    prop = columns["prop"][source]
    group = prop * _PART_LIMIT + columns["part"][source]
    part_depth = np.bincount(group, weights=depth) / np.maximum(np.bincount(group), 1)
    return np.lexsort((-depth, columns["layer"][source], -part_depth[group], prop))


def _depth(points: np.ndarray, camera: Camera) -> np.ndarray:
    return np.asarray(points[:, 2] * math.cos(camera.pitch) - points[:, 1] * math.sin(camera.pitch))


def project(props: list[Prop], camera: Camera, size: tuple[int, int]) -> Faces:
    """Projects all props into the picture.

    Args:
        props: placed objects, with heights over the road.
        camera: camera at x = z = 0 and at the height ``camera.z``, looking along +z and down by ``camera.pitch``.
        size: (H, W) of the image, px; faces outside of it are dropped.
    """
    columns = _columns(props)
    soup = _soup(props, camera.z)
    normal = _normals(soup)
    towards = (normal * soup.points[soup.starts]).sum(axis=1)
    far = np.maximum.reduceat(_depth(soup.points, camera), soup.starts)
    keep = np.flatnonzero((far > NEAR) & ((towards < 0) | ~columns["culled"]))
    soup = _select(soup, keep)
    soup = _clip(soup, _depth(soup.points, camera))
    depth = _depth(soup.points, camera)
    down = -soup.points[:, 1] * math.cos(camera.pitch) - soup.points[:, 2] * math.sin(camera.pitch)
    x = camera.u0 + camera.fx * soup.points[:, 0] / depth
    y = camera.v0 + camera.fy * down / depth
    inside = np.maximum.reduceat(x, soup.starts) > -1
    inside &= np.minimum.reduceat(x, soup.starts) < size[1]
    inside &= np.maximum.reduceat(y, soup.starts) > -1
    inside &= np.minimum.reduceat(y, soup.starts) < size[0]
    mean_depth = np.add.reduceat(depth, soup.starts) / soup.counts
    visible = np.flatnonzero(inside)
    order = visible[_order(columns, soup.source[visible], mean_depth[visible])]
    plane = _planes(soup, normal[soup.source], camera, depth)[order]
    source, starts, counts = soup.source[order], soup.starts[order], soup.counts[order]
    unit = normal[source] / np.sqrt((normal[source] ** 2).sum(axis=1))[:, None]
    unit = np.where(towards[source][:, None] > 0, -unit, unit)
    return Faces(
        xy=np.stack([x, y], axis=1)[_gather(starts, counts)],
        starts=np.cumsum(counts) - counts,
        counts=counts,
        plane=plane,
        normal=unit,
        **{name: columns[name][source] for name in ("color", "material", "prop", "class_id", "instance_id", "sheer")},
    )
