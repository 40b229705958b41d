"""Joint transforms of a sample's layers: resizing, and the random flip, scale, crop and jitter of training."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from multitask.data.cells import nearest, resize_measured
from multitask.data.sample import Sample
from multitask.errors import UserError

PAD_COLOR = (124, 116, 104)
"""RGB of padding: ImageNet's mean colour, which is zero once normalised."""

_LARGEST_SCALE = 64
"""Limit of the scale factor in training: with more, a crop shows only a few px of the frame."""


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resizes every layer to ``size`` = (H, W) px: the image area-filtered, labels nearest, disparity by medians.

    Disparity (see `resize_measured`) is multiplied by the horizontal factor, since it is in px.
    """
    return sample if sample.image.shape[:2] == size else _window(sample, scaled=size, top=0, left=0, size=size)


@dataclass(frozen=True)
class Augmentation:
    """Random flip, scale and crop of all layers together, and an optional jitter of the colours (section 5, appendix).

    Attributes:
        flip: probability of mirroring left and right.
        scale: range of the uniform scale factor.
        crop: (H, W) px of the crop after scaling, padded where the scaled frame is smaller; None: the frame's size.
        jitter: brightness, contrast and saturation vary by at most this fraction; 0 as in the paper.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise UserError(f"data.augmentation.flip: needed a probability, found {self.flip}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= _LARGEST_SCALE:
            raise UserError(
                f"data.augmentation.scale: needed 0 < smallest <= largest <= {_LARGEST_SCALE}, found {list(self.scale)}"
            )
        if not 0 <= self.jitter < 1:
            raise UserError(f"data.augmentation.jitter: needed a fraction from 0 to below 1, found {self.jitter}")

    def check_crop(self, image_size: tuple[int, int]) -> None:
        """Refuses a crop larger than any scaled frame.

        Raises:
            UserError: naming the key.
        """
        largest = [round(side * self.scale[1]) for side in image_size]
        if self.crop and any(crop > side for crop, side in zip(self.crop, largest, strict=True)):
            raise UserError(
                f"data.augmentation.crop: needed at most {largest}, the largest scaled frame, found {list(self.crop)}"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draws one augmentation from ``rng`` and applies it."""
        if rng.random() < self.flip:
            sample = _flip(sample)
        height, width = sample.image.shape[:2]
        factor = rng.uniform(*self.scale)
        scaled = max(1, round(height * factor)), max(1, round(width * factor))
        size = self.crop or (height, width)
        if scaled != (height, width) or size != (height, width):
            top, left = (_offset(rng, whole, part) for whole, part in zip(scaled, size, strict=True))
            sample = _window(sample, scaled=scaled, top=top, left=left, size=size)
        return _jitter(sample, self.jitter, rng) if self.jitter else sample


def _offset(rng: np.random.Generator, whole: int, part: int) -> int:
    """Draws the start of the window along one axis, px; negative where the window is larger than the frame."""
    return int(rng.integers(0, whole - part + 1)) if whole >= part else -int(rng.integers(0, part - whole + 1))


def _flip(sample: Sample) -> Sample:
    def mirror(layer: np.ndarray | None) -> np.ndarray | None:
        return None if layer is None else np.ascontiguousarray(layer[:, ::-1])

    return replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        class_ids=mirror(sample.class_ids),
        instance_ids=mirror(sample.instance_ids),
        disparity=mirror(sample.disparity),
        camera=sample.camera and sample.camera.flipped(sample.image.shape[1]),
    )


def _window(sample: Sample, *, scaled: tuple[int, int], top: int, left: int, size: tuple[int, int]) -> Sample:
    """Scales a sample to ``scaled`` (H, W) and crops ``size`` at (top, left), computing only the pixels of the crop."""
    height, width = sample.image.shape[:2]
    ky, kx = scaled[0] / height, scaled[1] / width
    rows = np.arange(max(top, 0), min(top + size[0], scaled[0]))
    columns = np.arange(max(left, 0), min(left + size[1], scaled[1]))
    inside = slice(rows[0] - top, rows[-1] + 1 - top), slice(columns[0] - left, columns[-1] + 1 - left)
    labels = np.ix_(nearest(rows, ky, height), nearest(columns, kx, width))

    def padded(part: np.ndarray, fill: float) -> np.ndarray:
        window = np.full(size, fill, dtype=part.dtype)
        window[inside] = part
        return window

    def pick(layer: np.ndarray | None) -> np.ndarray | None:
        return None if layer is None else padded(layer[labels], 0)

    image = np.empty((*size, 3), dtype=np.uint8)
    image[:] = PAD_COLOR
    image[inside] = _resized_image(sample.image, scaled, rows, columns)
    disparity = sample.disparity
    if disparity is not None:
        disparity = padded(resize_measured(disparity, scaled, rows, columns), np.nan) * np.float32(kx)
    return replace(
        sample,
        image=image,
        class_ids=pick(sample.class_ids),
        instance_ids=pick(sample.instance_ids),
        disparity=disparity,
        camera=sample.camera and sample.camera.scaled(kx, ky).cropped(left, top),
    )


def _resized_image(image: np.ndarray, scaled: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns the given rows and columns of an image (H, W, 3) resized to ``scaled``, area-filtered."""
    height, width = image.shape[:2]
    ky, kx = scaled[0] / height, scaled[1] / width
    box = columns[0] / kx, rows[0] / ky, min((columns[-1] + 1) / kx, width), min((rows[-1] + 1) / ky, height)
    whole = Image.fromarray(image)
    if height % scaled[0] == 0 and width % scaled[1] == 0:
        # The exact mean over each new pixel's area, which consists of entire source pixels.
        left, top, right, bottom = (round(edge) for edge in box)
        return np.asarray(whole.reduce((width // scaled[1], height // scaled[0]), (left, top, right, bottom)))
    return np.asarray(whole.resize((len(columns), len(rows)), Image.Resampling.BILINEAR, box))


def resize_nearest(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a layer of labels (H, W) by nearest neighbour."""
    if layer.shape == size:
        return layer
    rows, columns = (nearest(np.arange(new), new / old, old) for new, old in zip(size, layer.shape, strict=True))
    return layer[np.ix_(rows, columns)]


def _jitter(sample: Sample, amount: float, rng: np.random.Generator) -> Sample:
    image = Image.fromarray(sample.image)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, rng.uniform(1 - amount, 1 + amount, size=3), strict=True):
        image = enhancer(image).enhance(float(factor))
    return replace(sample, image=np.asarray(image))
