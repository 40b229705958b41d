"""Reading pictures that are not plain 8-bit RGB PNGs: photographs in any format."""

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
"""Size limit of one picture in px, the same as for PNGs."""

_LYING = (5, 6, 7, 8)
"""EXIF orientations in which columns are stored as rows."""

_warnings_lock = threading.Lock()


def read_rgb(path: Path) -> np.ndarray:
    """Reads a picture in any format of Pillow, (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        UserError: naming the file, if it is missing, damaged or too large.
    """
    with _picture(path) as image:
        if image.mode.startswith(("I", "F")):  # Pillow would clip their values at 255
            raise UserError(f"{path}: needed a picture of 8 bits, found one of mode {image.mode}")
        return np.asarray(ImageOps.exif_transpose(image.convert("RGB")))


def read_size(path: Path) -> tuple[int, int]:
    """Returns the upright size (H, W) px of a picture without decoding it.

    Raises:
        UserError: naming the file, if it is missing or not a picture.
    """
    with _picture(path) as image:
        lies = image.getexif().get(ExifTags.Base.Orientation) in _LYING
        return (image.width, image.height) if lies else (image.height, image.width)


def is_plain_png(path: Path) -> bool:
    """Whether a file is an 8-bit RGB PNG, which `multitask.data.layout` reads with all its checks."""
    header = _png_header(path)
    # A damaged file counts as one by its name: reading it then says what is wrong.
    return header.is_rgb and header.depth == 8 if header else path.suffix.lower() == ".png"


def is_shallow_png(path: Path) -> bool:
    """Whether a file is a PNG of 8 bits or fewer."""
    header = _png_header(path)
    return header is not None and header.depth <= 8


def is_png(path: Path) -> bool:
    """Whether a file is a PNG of any coding, by its content or its name."""
    return _png_header(path) is not None or path.suffix.lower() == ".png"


def _png_header(path: Path) -> Header | None:
    """Returns the header of a PNG; None for other or damaged files."""
    with opened(path) as file, suppress(Damaged):
        return read_png_header(file)
    return None


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    # Pillow's warnings about odd files are ignored, and large pictures are refused below. The lock is needed since
    # headers are read in threads, which share Python's list of warning filters.
    with opened(path) as file, _warnings_lock, warnings.catch_warnings():
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
