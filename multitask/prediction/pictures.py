"""Any picture, of any mode and depth, to 8-bit RGB."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from multitask.data.transforms import PAD_COLOR
from multitask.errors import UserError

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Formats that pictures are read in: those of photographs, whose readers start no other program."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture file upright; of several pictures in it the first.

    Returns:
        (H, W, 3) uint8 RGB.
    Raises:
        UserError: naming the file, if it is missing, damaged or of an unknown kind.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            return to_rgb(image)
    except Exception as error:  # what Pillow raises depends on which byte is damaged
        if not path.is_file():
            raise UserError(f"{path}: no such file") from None
        known = not isinstance(error, UnidentifiedImageError)
        reason = (" ".join(str(error).split()) or type(error).__name__) if known else f"none of {', '.join(_FORMATS)}"
        raise UserError(f"{path}: not a readable picture, {path.stat().st_size} bytes ({reason})") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Within ``with`` Pillow reads what it can without a word on what is odd in a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def to_rgb(image: Image.Image) -> np.ndarray:
    """An opened picture upright, (H, W, 3) uint8 RGB.

    Transparent pixels show the neutral grey of ImageNet's mean. 16 bits are divided by 257; of floating point numbers
    the least becomes black and the greatest white.
    """
    image.load()
    orientation = _orientation(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = Image.new("RGBA", image.size, (*PAD_COLOR, 255))
        over.alpha_composite(image.convert("RGBA"))
        image = over
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return np.asarray(image.convert("RGB"))


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 -> (H, W, 3) uint8 RGB.

    Raises:
        UserError: for another shape or type.
    """
    shape = array.shape
    if len(shape) not in (2, 3) or not array.size or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise UserError(f"image: needed the shape (H, W), (H, W, 3) or (H, W, 4), found {shape}")
    if array.dtype not in (np.uint8, np.uint16):
        raise UserError(f"image: needed uint8 or uint16, found {array.dtype}")
    return to_rgb(Image.fromarray(array if array.dtype == np.uint8 else _eight_bits(array)))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data: the picture itself was read
        return 1


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Numbers of any type in 0 to 255."""
    if np.issubdtype(values.dtype, np.integer):
        return ((np.clip(values, 0, 65535).astype(np.int64) + 128) // 257).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    return np.round((values - values.min()) * 255 / max(np.ptp(values), 1e-300)).astype(np.uint8)
