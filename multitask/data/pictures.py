"""Reading the pictures of data sets that are no PNGs of the usual kind: photographs in any format, and palettes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from multitask.data.png_chunks import Damaged
from multitask.data.png_chunks import read_header as read_png_header
from multitask.data.reading import opened
from multitask.errors import UserError, reason

_MOST_PIXELS = 225_000_000
"""Of one picture, as of PNGs."""


def read_rgb(path: Path) -> np.ndarray:
    """A picture in any format that Pillow reads, (H, W, 3) uint8 RGB, its pixels as they are stored.

    Raises:
        UserError: naming the file, if it is missing, damaged or too large.
    """
    with _picture(path) as image:
        return np.asarray(image.convert("RGB"))


def read_indices(path: Path) -> np.ndarray:
    """The numbers of a PNG's pixels in its palette, whatever its colours, or its greys, (H, W) uint8.

    Raises:
        UserError: naming the file, if it is missing, damaged, too large, or has neither.
    """
    with _picture(path) as image:
        if image.mode not in ("P", "L"):
            raise UserError(f"{path}: needed a palette or 8-bit greys, found {image.mode}")
        return np.asarray(image)


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) px of a picture, which is not decoded.

    Raises:
        UserError: naming the file, if it is missing or no picture.
    """
    with _picture(path) as image:
        return image.height, image.width


def is_plain_png(path: Path) -> bool:
    """Whether a file is an 8-bit RGB PNG, which `multitask.data.layout` reads with all its checks."""
    with opened(path) as file:
        try:
            header = read_png_header(file)
        except Damaged:
            return path.suffix.lower() == ".png"  # which reading it says better
    return header.is_rgb and header.depth == 8


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    with opened(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, whose size is checked below
        try:
            with Image.open(file) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise UserError(f"{path}: needed at most {_MOST_PIXELS} px, found {image.height} x {image.width}")
                yield image
        except UnidentifiedImageError:
            raise UserError(f"{path}: needed a picture, found a file of another kind") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: not a readable picture ({reason(error)})") from error
