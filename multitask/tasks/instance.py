"""The instance segmentation task: regression of the vector from each pixel to its instance's centroid (section 4.2)."""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from multitask.data.classes import INSTANCE_BASE, ClassTable
from multitask.data.sample import Sample, Target
from multitask.tasks.base import FigureOfMerit, Regression


class Instance(Regression):
    """Regression of the vector (x, y), px, from each pixel of an instance to its centroid, with the L1 loss.

    Args:
        classes: the class table, which defines the classes with instances.
        likelihood: ``paper``, ``laplace`` or ``gaussian`` (which changes the loss to the squared error).
    """

    name = "instance"
    channels = 2
    meaning = "vector (x, y) from the pixel to the centroid of its instance, px of the picture"
    layers = ("instance_ids",)
    figures = (
        *Regression.figures,
        FigureOfMerit("ap", "AP, %", higher_is_better=True, percent=True),
        FigureOfMerit("ap50", "AP50, %", higher_is_better=True, percent=True),
        FigureOfMerit("ap100m", "AP100m, %", higher_is_better=True, percent=True),
        FigureOfMerit("ap50m", "AP50m, %", higher_is_better=True, percent=True),
    )
    sparse = True

    def encode(self, sample: Sample) -> Target:
        """Returns vectors [2, H, W] float32, valid inside single instances of evaluated classes (not in groups)."""
        if sample.instance_ids is None:
            height, width = sample.image.shape[:2]
            return Target(torch.zeros(2, height, width), torch.zeros(height, width, dtype=torch.bool))
        offsets, valid = centroid_offsets(sample.instance_ids, self.classes)
        return Target(torch.from_numpy(offsets), torch.from_numpy(valid))

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Renders direction as hue and length as intensity (figure 1), full at a sixteenth of the picture's width."""
        x, y = prediction.cpu().float().numpy()
        hue = (np.arctan2(y, x) / (2 * math.pi)) % 1
        length = np.minimum(np.hypot(x, y) / (x.shape[1] / 16), 1)
        if valid is not None:
            length = length * valid.cpu().numpy()
        bands = [(band * 255).round().astype(np.uint8) for band in (hue, np.ones_like(hue), length)]
        return np.asarray(Image.merge("HSV", [Image.fromarray(band) for band in bands]).convert("RGB"))

    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        directions = {"centre right": (1, 0), "centre below": (0, 1), "centre left": (-1, 0), "centre above": (0, -1)}
        vectors = torch.tensor(list(directions.values())).float() * width
        colors = [self.render(vector.view(2, 1, 1).expand(2, 1, width))[0, 0] for vector in vectors]
        return [(text, tuple(color.tolist())) for text, color in zip(directions, colors, strict=True)]


def centroid_offsets(instance_ids: np.ndarray, classes: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """Computes the vector from each pixel to the centroid of its instance.

    Args:
        instance_ids: (H, W) int, in the coding of `Sample`.
        classes: the class table of the ids.
    Returns:
        offset: (2, H, W) float32, px, centroid minus pixel, (x, y); zero where not valid.
        valid: (H, W) bool, True inside a single instance of an evaluated class.
    """
    valid = classes.counted[instance_ids // INSTANCE_BASE]
    rows, columns = np.nonzero(valid)
    _, owner = np.unique(instance_ids[rows, columns], return_inverse=True)
    sizes = np.bincount(owner)
    offset = np.zeros((2, *instance_ids.shape), dtype=np.float32)
    for component, positions in zip(offset, (columns, rows), strict=True):
        centroids = np.bincount(owner, weights=positions) / sizes
        component[rows, columns] = centroids[owner] - positions
    return offset, valid
