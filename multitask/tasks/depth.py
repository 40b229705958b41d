"""The depth task: inverse depth, as disparity in px (section 4.3)."""

import numpy as np
import torch
from torch import Tensor

from multitask.data.sample import Sample, Target
from multitask.tasks.base import FigureOfMerit, Regression


class Depth(Regression):
    """Regression of the disparity of each pixel, in px at the resolution of the tensor, with the L1 loss.

    Args:
        classes: the class table, which defines the sky, infinitely far away, and classes that do not show the scene.
        likelihood: ``paper``, ``laplace`` or ``gaussian`` (which changes the loss to the squared error).
    """

    name = "depth"
    channels = 1
    meaning = "disparity, px of the picture"
    layers = ("disparity",)
    figures = (
        *Regression.figures,
        FigureOfMerit("abs_rel", "relative depth error", higher_is_better=False),
        FigureOfMerit("rms_error_m", "RMS depth error, m", higher_is_better=False),
        FigureOfMerit("delta_1.25", "depth within 1.25, %", higher_is_better=True, percent=True),
        FigureOfMerit("delta_1.25_2", "depth within 1.25^2, %", higher_is_better=True, percent=True),
        FigureOfMerit("delta_1.25_3", "depth within 1.25^3, %", higher_is_better=True, percent=True),
        FigureOfMerit("log10", "log10 depth error", higher_is_better=False),
        FigureOfMerit("silog", "SILog, ln x 100", higher_is_better=False),
    )

    def encode(self, sample: Sample) -> Target:
        """Returns the disparity [1, H, W] float32, valid where measured.

        If the class table has a sky, its disparity is 0 px in every frame with a measurement (section 4.3), even if a
        crop contains none, so that a pixel's validity does not depend on the crop. Unseen classes are never valid.
        """
        if sample.disparity is None:
            height, width = sample.image.shape[:2]
            return Target(torch.zeros(1, height, width), torch.zeros(height, width, dtype=torch.bool))
        disparity, valid = sample.disparity, np.isfinite(sample.disparity)
        if sample.class_ids is not None:
            if self.classes.sky_id is not None and sample.measured:
                sky = sample.class_ids == self.classes.sky_id
                disparity, valid = np.where(sky, 0, disparity), valid | sky
            valid &= ~np.isin(sample.class_ids, self.classes.unseen_ids)
        value = np.where(valid, disparity, 0).astype(np.float32)
        return Target(torch.from_numpy(value).unsqueeze(0), torch.from_numpy(valid))

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Renders the square root of disparity, from dark blue at 0 to yellow at a sixteenth of the picture's width."""
        disparity = prediction[0].cpu().float().numpy()
        level = np.sqrt(np.clip(disparity / (disparity.shape[1] / 16), 0, 1)) * (len(_RAMP) - 1)
        picture = np.stack([np.interp(level, np.arange(len(_RAMP)), channel) for channel in _RAMP.T], axis=-1)
        if valid is not None:
            picture *= valid.cpu().numpy()[..., None]
        return picture.round().astype(np.uint8)

    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        levels = [0, width / 256, width / 64, width / 32, width / 16]
        pictures = [self.render(torch.full((1, 1, width), level)) for level in levels]
        return [
            (f"{level:.3g} px", tuple(picture[0, 0].tolist())) for level, picture in zip(levels, pictures, strict=True)
        ]


_RAMP = np.array(
    [(20, 10, 60), (50, 40, 130), (40, 100, 160), (30, 155, 145), (110, 200, 90), (250, 235, 60)], dtype=np.float64
)
"""Colour map: RGB of evenly spaced levels, in order of lightness."""
