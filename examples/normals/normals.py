"""A fourth task: surface normals, learned from the disparity labels and the camera."""

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
"""Angular errors, in degrees, within which normals count as correct in the literature."""

_UNSURE = math.radians(10)
"""Largest uncertainty of a target, rad: the standard deviation of the normal of a surface that faces the camera, from
the residuals of the fitted plane. It is exceeded where disparity is noisy, far away, or at an edge."""


class VonMisesFisher(Likelihood):
    """The von Mises-Fisher likelihood of unit vectors, with s = -log kappa.

    The density is kappa / (2 pi (1 - exp(-2 kappa))) * exp(kappa (cos - 1)). Its negative logarithm is
    ``exp(-s) L + s + log(1 - exp(-2 exp(-s)))`` up to a constant, with L the mean of 1 - cos. For large kappa it is a
    Gaussian of variance exp(s), rad^2, in each of the two directions in which a normal can turn.
    """

    def __init__(self) -> None:
        # 1 - cos is half the squared distance of the two unit vectors.
        super().__init__("von_mises_fisher", "squared", precision=1.0, penalty=1.0)

    def nll(self, loss: Tensor, s: Tensor, share: float = 1.0) -> Tensor:
        sphere = torch.log(-torch.expm1(-2 * torch.exp(-s)))  # from the finite sphere; 0 for large kappa
        return super().nll(loss, s, share) + share * sphere

    def optimum(self, loss: float) -> float:
        """Returns the s of mean cosine 1 - L, the solution of coth(kappa) - 1 / kappa = 1 - L; ln L for a small L.

        Raises:
            UserError: for an L that is not between 0 and 1, for which there is no best kappa.
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
    """Regression of the unit normal of the surface at each pixel, facing the camera, with the loss 1 - cos.

    In camera coordinates, x right, y down, z forward, a road has (0, -1, 0), a wall straight ahead (0, 0, -1).

    Args:
        classes: the class table.
        radius: px, of the window around each pixel to which a plane is fitted; a larger one smooths noise and edges.
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
        """Returns normals [3, H, W] float32, valid where a plane fits the disparity, not in sky or unseen classes."""
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
        """Returns 1 - cos of the angle between the two, from 0 to 2."""
        return 1 - (functional.normalize(prediction, dim=1) * value).sum(1)

    def ideal(self, value: Tensor) -> Tensor:
        return value

    def metric(self) -> Metric:
        return AngularError()

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Renders normals as RGB, (n + 1) / 2: red faces right, green up, blue the camera."""
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
    """Accumulates the angles between predictions and targets over valid pixels: mean, and shares within `WITHIN`."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2 + len(WITHIN), dtype=torch.float64)

    def update(self, prediction: Tensor, target: Target) -> None:
        """Adds predictions [B, 3, H, W], of any length, against unit vectors [B, 3, H, W]."""
        one, other = (x.movedim(1, -1)[target.valid].double() for x in (prediction, target.value))
        # Unlike the arc cosine, this is accurate for small angles.
        degrees = torch.atan2(torch.linalg.cross(one, other).norm(dim=-1), (one * other).sum(-1)).rad2deg()
        shares = [(degrees <= angle).sum().double() for angle in WITHIN]
        sums = torch.stack([target.valid.sum().double(), degrees.sum(), *shares])
        self.sums = self.sums.to(sums.device) + sums

    def compute(self) -> dict[str, float]:
        """Returns ``mean_error_deg`` and ``within_<angle>`` (fractions); empty without a valid pixel."""
        count, *sums = self.sums.tolist()
        keys = ("mean_error_deg", *(f"within_{angle:g}" for angle in WITHIN))
        return {key: value / count for key, value in zip(keys, sums, strict=True)} if count else {}


def plane_normals(disparity: Tensor, measured: Tensor, camera: Camera, radius: int) -> tuple[Tensor, Tensor]:
    """Computes normals from planes fitted to the disparity around each pixel by least squares.

    A plane in space has a disparity d = a u + b v + c, and its normal is along (a fx, b fy, a u0 + b v0 + c).

    Args:
        disparity: [H, W] px, zero where not measured.
        measured: [H, W] bool.
        camera: the camera of this picture.
        radius: px, of the window around each pixel.
    Returns:
        normals: [3, H, W] float64, of length 1, facing the camera; arbitrary where not valid.
        valid: [H, W] bool, True where more than half of the window is measured and the normal's uncertainty is at most
            `_UNSURE`.
    """
    values = torch.stack([torch.ones_like(disparity), disparity, disparity.square()]).double() * measured
    moments = _moments(values, radius)
    count = moments[0, 0, 0].clamp(min=1)
    # Means over the window, with x and y relative to its centre; then variances and covariances.
    (_, y, y2), (x, xy, _), (x2, _, _) = moments[0] / count
    (d, yd, _), (xd, _, _), _ = moments[1] / count
    xx, xy, yy, xd, yd = x2 - x * x, xy - x * y, y2 - y * y, xd - x * d, yd - y * d
    enough = measured & (count > (2 * radius + 1) ** 2 / 2)
    spread = torch.where(enough, xx * yy - xy * xy, 1)
    a, b = (yy * xd - xy * yd) / spread, (xx * yd - xy * xd) / spread
    v, u = torch.meshgrid(*(torch.arange(side) for side in measured.shape), indexing="ij")
    here = d - a * x - b * y
    away = torch.stack([a * camera.fx, b * camera.fy, here - a * (u - camera.u0) - b * (v - camera.v0)])
    # The residual variance of d around the plane, and the variance of the slopes that follows from it.
    noise = (moments[2, 0, 0] / count - d * d - a * xd - b * yd).clamp(min=0) / (count - 3).clamp(min=1)
    doubt = noise * (camera.fx**2 * yy + camera.fy**2 * xx) / spread
    return -functional.normalize(away, dim=0), enough & (here > 0) & (doubt <= (_UNSURE * d) ** 2)


def _moments(layers: Tensor, radius: int) -> Tensor:
    """Sums layers [K, H, W] times powers of x and y over the window around each pixel, x and y relative to its centre.

    Returns:
        [K, 3, 3, H, W]: powers 0 to 2 of x, then powers 0 to 2 of y.
    """
    offsets = torch.arange(-radius, radius + 1, dtype=layers.dtype)
    powers = torch.stack([offsets**power for power in range(3)])
    across = functional.conv2d(layers.unsqueeze(1), powers.view(3, 1, 1, -1), padding=(0, radius))
    down = functional.conv2d(across.flatten(0, 1).unsqueeze(1), powers.view(3, 1, -1, 1), padding=(radius, 0))
    return down.view(len(layers), 3, 3, *layers.shape[1:])


def _alike(labels: np.ndarray, radius: int) -> np.ndarray:
    """Whether all labels (H, W) in the window around each pixel, cropped to the picture, are the same."""
    lowest = highest = np.pad(labels, radius, mode="edge")
    for axis in (0, 1):
        lowest = reduce(np.minimum, _shifted(lowest, radius, axis))
        highest = reduce(np.maximum, _shifted(highest, radius, axis))
    return np.asarray(lowest == highest)


def _shifted(padded: np.ndarray, radius: int, axis: int) -> list[np.ndarray]:
    """Returns all windows along an axis of the size before padding: shifts by -radius to radius px."""
    length = padded.shape[axis] - 2 * radius
    rows_first = np.moveaxis(padded, axis, 0)
    return [np.moveaxis(rows_first[start : start + length], 0, axis) for start in range(2 * radius + 1)]
