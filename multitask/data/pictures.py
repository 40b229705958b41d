"""Reading the pictures of data sets that are no PNGs of the usual kind: photographs in any format."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from multitask.data.png_chunks import Damaged, Header
from multitask.data.png_chunks import read_header as read_png_header
from multitask.data.reading import opened
from multitask.errors import UserError, reason

_MOST_PIXELS = 225_000_000
"""Of one picture, as of PNGs."""

_LYING = (5, 6, 7, 8)
"""Orientations of EXIF in which columns are stored as rows."""

_one = threading.Lock()


def read_rgb(path: Path) -> np.ndarray:
    """A picture in any format that Pillow reads, (H, W, 3) uint8 RGB, turned upright as its EXIF says.

    Raises:
        UserError: naming the file, if it is missing, damaged or too large.
    """
    with _picture(path) as image:
        if image.mode.startswith(("I", "F")):  # whose values Pillow would cut off at 255
            raise UserError(f"{path}: needed a picture of 8 bits, found one of mode {image.mode}")
        return np.asarray(ImageOps.exif_transpose(image.convert("RGB")))


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) px of a picture, upright, which is not decoded.

    Raises:
        UserError: naming the file, if it is missing or no picture.
    """
    with _picture(path) as image:
        lies = image.getexif().get(ExifTags.Base.Orientation) in _LYING
        return (image.width, image.height) if lies else (image.height, image.width)


def is_plain_png(path: Path) -> bool:
    """Whether a file is an 8-bit RGB PNG, which `multitask.data.layout` reads with all its checks."""
    header = _png_header(path)
    return header.is_rgb and header.depth == 8 if header else path.suffix.lower() == ".png"  # which reading it says


def is_shallow_png(path: Path) -> bool:
    """Whether a file is a PNG of 8 bits or fewer."""
    header = _png_header(path)
    return header is not None and header.depth <= 8


def is_png(path: Path) -> bool:
    """Whether a file is a PNG, whatever its coding, or says so by its name."""
    return _png_header(path) is not None or path.suffix.lower() == ".png"


def _png_header(path: Path) -> Header | None:
    """The header of a PNG; None of what is none, or damaged."""
    with opened(path) as file, suppress(Damaged):
        return read_png_header(file)
    return None


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    # What is odd in a file is no fault, and large pictures are refused below. The lock is there since headers are read
    # in threads, which share what Python keeps of warnings.
    with opened(path) as file, _one, warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
