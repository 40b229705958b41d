"""A fourth task: the direction that each surface faces, learned from the disparity labels and the camera."""

import math
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from multitask.data.classes import ClassTable
from multitask.data.layout import Camera
from multitask.data.sample import Sample, Target
from multitask.errors import UserError
from multitask.likelihoods import Likelihood
from multitask.metrics import Metric
from multitask.tasks.base import FigureOfMerit, Task

WITHIN = (11.25, 22.5, 30.0)
"""Angles, degrees, within which the field counts normals as right."""

_UNSURE = math.radians(10)
"""Where a surface that faces the camera could be turned by more than this (rad, one standard deviation), given what
the fitted plane leaves unexplained, there is no target: it is too noisy, too far away, or an edge."""


class VonMisesFisher(Likelihood):
    """Of unit vectors: density kappa / (2 pi (1 - exp(-2 kappa))) * exp(kappa (cos - 1)), with s = -log kappa.

    Its -log is ``exp(-s) L + s + log(1 - exp(-2 exp(-s)))`` less a constant, with L the mean of 1 - cos. Where kappa is
    large it is a Gaussian of variance exp(s), rad^2, along each of the two directions that a normal can turn to.
    """

    def __init__(self) -> None:
        # 1 - cos is half the squared distance of the two unit vectors.
        super().__init__("von_mises_fisher", "squared", precision=1.0, penalty=1.0)

    def nll(self, loss: Tensor, s: Tensor, share: float = 1.0) -> Tensor:
        sphere = torch.log(-torch.expm1(-2 * torch.exp(-s)))  # the sphere is finite: 0 where kappa is large
        return super().nll(loss, s, share) + share * sphere

    def optimum(self, loss: float) -> float:
        """The s at which the mean cosine is that of the density: coth(kappa) - 1 / kappa = 1 - L; ln L for a small L.

        Raises:
            UserError: for an L that is not between 0 and 1, where no kappa is the best.
        """
        if not 0 < loss < 1:
            raise UserError(f"likelihood {self.name!r}: needed a loss between 0 and 1, found {loss}")
        low, high = math.log(loss) - 1, 50.0
        for _ in range(100):
            s = (low + high) / 2
            kappa = math.exp(-s)
            low, high = (s, high) if kappa * (1 / math.tanh(kappa) - 1 + loss) > 1 else (low, s)
        return s


class Normals(Task):
    """The unit normal of the surface that each pixel shows, facing the camera: 1 - cos over the pixels that have one.

    x is right, y down, z forward, as the camera sees it: a road is at (0, -1, 0), a wall straight ahead at (0, 0, -1).

    Args:
        classes: the class table.
        radius: px around each pixel, to which a plane is fitted; more smooths more noise and more corners.
    Raises:
        UserError: naming the key, if the radius is not above zero.
    """

    name = "normals"
    channels = 3
    layers = ("disparity", "camera")
    figures = (
        FigureOfMerit("mean_error_deg", "mean error, degrees", higher_is_better=False),
        *(
            FigureOfMerit(f"within_{a:g}", f"within {a:g} degrees, %", higher_is_better=True, percent=True)
            for a in WITHIN
        ),
    )

    def __init__(self, classes: ClassTable, radius: int = 4) -> None:
        self.classes = classes
        if radius < 1:
            raise UserError(f"task.{self.name}.radius: needed a whole number above zero, found {radius}")
        self.radius = radius
        self.likelihood = VonMisesFisher()

    def encode(self, sample: Sample) -> Target:
        """Normals [3, H, W] float32, valid where a plane fits the disparity; not in the sky, nor where it is unseen."""
        height, width = sample.image.shape[:2]
        if sample.disparity is None or sample.camera is None:
            return Target(torch.zeros(3, height, width), torch.zeros(height, width, dtype=torch.bool))
        measured = np.isfinite(sample.disparity) & (sample.disparity > 0)
        if sample.class_ids is not None:
            nowhere = [*self.classes.unseen_ids, *([] if self.classes.sky_id is None else [self.classes.sky_id])]
            measured &= ~np.isin(sample.class_ids, nowhere)
        disparity = torch.from_numpy(np.where(measured, sample.disparity, 0))
        normals, valid = plane_normals(disparity, torch.from_numpy(measured), sample.camera, self.radius)
        labels = sample.class_ids if sample.instance_ids is None else sample.instance_ids
        if labels is not None:
            valid &= torch.from_numpy(_alike(labels, self.radius))
        return Target(torch.where(valid, normals, 0).float(), valid)

    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        """1 - cos of the angle between the two, from 0 to 2."""
        return 1 - (functional.normalize(prediction, dim=1) * value).sum(1)

    def ideal(self, value: Tensor) -> Tensor:
        return value

    def metric(self) -> Metric:
        return AngularError()

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Red the more it faces right, green the more up, blue the more it faces the camera: (n + 1) / 2."""
        axes = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
        normals = functional.normalize(prediction.cpu().float(), dim=0) * axes
        picture = ((normals + 1) * 127.5).round()
        if valid is not None:
            picture = picture * valid.cpu()
        return picture.to(torch.uint8).permute(1, 2, 0).numpy()

    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        facing = {"the camera": (0, 0, -1), "up": (0, -1, 0), "left": (-1, 0, 0), "right": (1, 0, 0)}
        colors = self.render(torch.tensor(list(facing.values())).float().T.unsqueeze(1))[0]
        return [(f"faces {text}", tuple(color.tolist())) for text, color in zip(facing, colors, strict=True)]


class AngularError:
    """Angles between predictions and targets over the valid pixels: their mean, and the shares within `WITHIN`."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2 + len(WITHIN), dtype=torch.float64)

    def update(self, prediction: Tensor, target: Target) -> None:
        """Adds predictions [B, 3, H, W], of any length, against unit vectors [B, 3, H, W]."""
        one, other = (x.movedim(1, -1)[target.valid].double() for x in (prediction, target.value))
        # Unlike the arc cosine this is exact for small angles.
        degrees = torch.atan2(torch.linalg.cross(one, other).norm(dim=-1), (one * other).sum(-1)).rad2deg()
        shares = [(degrees <= angle).sum().double() for angle in WITHIN]
        sums = torch.stack([target.valid.sum().double(), degrees.sum(), *shares])
        self.sums = self.sums.to(sums.device) + sums

    def compute(self) -> dict[str, float]:
        """``mean_error_deg`` and ``within_<angle>`` (fractions); nothing without a valid pixel."""
        count, *sums = self.sums.tolist()
        keys = ("mean_error_deg", *(f"within_{angle:g}" for angle in WITHIN))
        return {key: value / count for key, value in zip(keys, sums, strict=True)} if count else {}


def plane_normals(disparity: Tensor, measured: Tensor, camera: Camera, radius: int) -> tuple[Tensor, Tensor]:
    """Normals from planes fitted to the disparity around each pixel by least squares.

    A plane in space has a disparity d = a u + b v + c, and its normal is along (a fx, b fy, a u0 + b v0 + c).

    Args:
        disparity: [H, W] px, zero where not measured.
        measured: [H, W] bool.
        camera: of this picture.
        radius: px around each pixel that count.
    Returns:
        normals: [3, H, W] float64, of length 1, facing the camera; any number where not valid.
        valid: [H, W] bool, where more than half of the pixels around are measured and their noise, or an edge among
            them, leaves the normal in little doubt.
    """
    values = torch.stack([torch.ones_like(disparity), disparity, disparity.square()]).double() * measured
    moments = _moments(values, radius)
    count = moments[0, 0, 0].clamp(min=1)
    # Means over the window, in which x and y begin at its centre; then variances and covariances.
    (_, y, y2), (x, xy, _), (x2, _, _) = moments[0] / count
    (d, yd, _), (xd, _, _), _ = moments[1] / count
    xx, xy, yy, xd, yd = x2 - x * x, xy - x * y, y2 - y * y, xd - x * d, yd - y * d
    enough = measured & (count > (2 * radius + 1) ** 2 / 2)
    spread = torch.where(enough, xx * yy - xy * xy, 1)
    a, b = (yy * xd - xy * yd) / spread, (xx * yd - xy * xd) / spread
    v, u = torch.meshgrid(*(torch.arange(side) for side in measured.shape), indexing="ij")
    here = d - a * x - b * y
    away = torch.stack([a * camera.fx, b * camera.fy, here - a * (u - camera.u0) - b * (v - camera.v0)])
    # What the plane leaves of the variance of d, and the variance of the slopes that follows from it.
    noise = (moments[2, 0, 0] / count - d * d - a * xd - b * yd).clamp(min=0) / (count - 3).clamp(min=1)
    doubt = noise * (camera.fx**2 * yy + camera.fy**2 * xx) / spread
    return -functional.normalize(away, dim=0), enough & (here > 0) & (doubt <= (_UNSURE * d) ** 2)


def _moments(layers: Tensor, radius: int) -> Tensor:
    """Sums over the window around each pixel of layers [K, H, W] times powers of x and y, which begin at its centre.

    Returns:
        [K, 3, 3, H, W]: powers 0 to 2 of x, of y.
    """
    offsets = torch.arange(-radius, radius + 1, dtype=layers.dtype)
    powers = torch.stack([offsets**power for power in range(3)])
    across = functional.conv2d(layers.unsqueeze(1), powers.view(3, 1, 1, -1), padding=(0, radius))
    down = functional.conv2d(across.flatten(0, 1).unsqueeze(1), powers.view(3, 1, -1, 1), padding=(radius, 0))
    return down.view(len(layers), 3, 3, *layers.shape[1:])


def _alike(labels: np.ndarray, radius: int) -> np.ndarray:
    """Whether all labels (H, W) in the window around each pixel, as far as it is in the picture, are the same."""
    lowest = highest = np.pad(labels, radius, mode="edge")
    for axis in (0, 1):
        lowest = reduce(np.minimum, _shifted(lowest, radius, axis))
        highest = reduce(np.maximum, _shifted(highest, radius, axis))
    return np.asarray(lowest == highest)


def _shifted(padded: np.ndarray, radius: int, axis: int) -> list[np.ndarray]:
    """What lies -radius to radius px away along an axis, along which ``padded`` is longer by the radius at each end."""
    length = padded.shape[axis] - 2 * radius
    rows_first = np.moveaxis(padded, axis, 0)
    return [np.moveaxis(rows_first[start : start + length], 0, axis) for start in range(2 * radius + 1)]
