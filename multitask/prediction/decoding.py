"""Conversion of pictures of any mode and bit depth to 8-bit RGB within bounded memory."""

import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from multitask.data.transforms import PAD_COLOR
from multitask.errors import UserError, reason
from multitask.prediction.kinds import open_file, readers

LARGEST = 178_956_970
"""Default size limit of a picture in px: Pillow's own limit."""

_LARGE = 2**24
"""Size in px beyond which a picture is shrunk while it is read."""

_STRIP = 2**20
"""Number of pixels of a large picture that are converted at once."""

_STREAMS = {"zip", "jpeg", "raw", "gif", "libtiff", "packbits", "pcx", "tga_rle", "sun_rle", "sgi_rle"}
"""Pillow's decoders that fill the picture (at most 4 bytes per px) from a buffer; others hold up to four copies."""

_LONG_STRIP = 2**23
"""Largest TIFF strip or tile in px that still counts as a buffer; each is decoded in one piece."""

_STRIP_ROWS, _TILE_COLUMNS, _TILE_ROWS, _ORIENTATION = 278, 322, 323, 274
"""Numbers of TIFF tags; the last one is also an EXIF tag."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that turns a picture upright, by EXIF orientation."""

_large_picture_lock = threading.Lock()
_largest: int | None = None


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, upright; a large picture is shrunk.
        size: (H, W) px of the original picture.
    """

    pixels: np.ndarray
    size: tuple[int, int]


@contextmanager
def pillow_limits(largest: int | None = None) -> Iterator[None]:
    """Sets Pillow's limits within ``with``, and silences its warnings about odd files.

    Args:
        largest: size limit of a picture in px; None: Pillow's current limit.
    """
    global _largest
    before, pixels, text = _largest, Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    try:
        if largest:
            _largest = largest
            # Pillow refuses more than twice this. A lower limit than its own would also apply to panels drawn here.
            Image.MAX_IMAGE_PIXELS = max(-(-largest // 2), LARGEST // 2)
        # A single text may use Pillow's limit for all texts of a PNG: editors store the history of their work there.
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        _largest, Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before, pixels, text


@contextmanager
def one_at_a_time(num_pixels: int) -> Iterator[None]:
    """Lets only one thread at a time hold a large picture in memory, within ``with``."""
    with _large_picture_lock if num_pixels > _LARGE else nullcontext():
        yield


def shrinking(size: tuple[int, int], min_size: tuple[int, int]) -> int:
    """Returns the integer factor by which a picture is shrunk while it is read.

    Args:
        size: (H, W) px of the picture.
        min_size: (h, w) px that are needed; the result has at least twice as many along each axis, to keep details.
    """
    wanted = math.ceil(math.sqrt(size[0] * size[1] / _LARGE))
    return max(1, min(wanted, size[0] // (2 * min_size[0]), size[1] // (2 * min_size[1])))


def read_picture(path: Path, min_size: tuple[int, int] = (1, 1)) -> Picture:
    """Reads a picture file, upright; if it has several pictures, the first.

    Args:
        path: the file.
        min_size: (h, w) px to which a large picture must not be shrunk.
    Raises:
        UserError: naming the file, if it is missing, damaged, of an unknown kind or too large.
    """
    with open_file(path) as file:
        what = f"{path}: not a readable picture, {os.fstat(file.fileno()).st_size} bytes"
        # Frees the decoded picture at once, even if the caller keeps an error whose traceback refers to it.
        with closing(_opened(file, path, what)) as image:
            _check_memory(path, image, what)
            with one_at_a_time(image.width * image.height):
                return _decoded(image, min_size, what)


def _opened(file: BinaryIO, path: Path, what: str) -> Image.Image:
    formats = readers(path)
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        raise UserError(f"{what} (none of {', '.join(formats)})") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: needed at most {most_pixels()} px (largest=), found more ({error})") from error
    except Exception as error:  # its type depends on the damaged byte
        raise UserError(f"{what} ({reason(error)})") from error


@contextmanager
def _pillow_errors(what: str) -> Iterator[None]:
    """Converts any error of Pillow to a `UserError`: its type depends on the damaged byte."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what} ({reason(error)})") from error


def _check_memory(path: Path, image: Image.Image, what: str) -> None:
    """Checks that the picture in a file is not too large to decode."""
    most, copies = most_pixels(), _copies(image, what)
    if most and image.width * image.height > most // copies:
        why = "" if copies == 1 else f" / {copies}, for {image.format} of this kind takes {copies} times the memory"
        raise UserError(
            f"{path}: needed at most {most // copies} px (largest={most}{why}), found {image.height} x {image.width}"
        )


def _copies(image: Image.Image, what: str) -> int:
    """Returns roughly how many copies of an opened picture (4 bytes per px) Pillow needs to decode it."""

    def tag(number: int, default: Any) -> Any:
        assert isinstance(image, TiffImageFile)
        with _pillow_errors(what):  # faulty tag values raise when they are accessed
            return image.tag_v2.get(number, default)

    decoders = {tile[0] for tile in getattr(image, "tile", ())}
    if not decoders or not decoders <= _STREAMS:
        return 4
    if isinstance(image, TiffImageFile) and "libtiff" in decoders:
        rows = tag(_TILE_ROWS, tag(_STRIP_ROWS, image.height))
        columns = tag(_TILE_COLUMNS, image.width)
        known = isinstance(rows, int) and isinstance(columns, int)
        if not known or min(rows, image.height) * columns > _LONG_STRIP:
            return 4
    if isinstance(image, TiffImageFile):
        return 1 if tag(_ORIENTATION, 1) == 1 else 2  # Pillow itself turns it upright, in a copy
    # A JPEG in several scans is decoded from all its coefficients, 2 bytes per channel.
    return 2 if "jpeg" in decoders and len(image.getbands()) > 3 else 1


def _decoded(image: Image.Image, min_size: tuple[int, int], what: str) -> Picture:
    """Decodes the picture in a file, shrunk during decoding if it is a JPEG, otherwise afterwards."""
    early = image.format in ("JPEG", "MPO")  # their orientation is known before decoding
    orientation = _orientation(image) if early else 1
    size = _upright_size(image, orientation)
    factor, width = shrinking(size, min_size), image.width
    with _pillow_errors(what):
        if factor > 1 and early:
            image.draft(None, (image.width // factor, image.height // factor))
        image.load()
    if not early:
        orientation, width = _orientation(image), image.width
        size = _upright_size(image, orientation)
        factor = shrinking(size, min_size)
    return Picture(_upright(image, orientation, max(1, factor // round(width / image.width)), what), size)


def most_pixels() -> int | None:
    """Returns the size limit of a picture in px; None for no limit."""
    return _largest or (2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else None)


def to_picture(image: Image.Image, min_size: tuple[int, int] = (1, 1), what: str = "image") -> Picture:
    """Converts an opened Pillow image to an upright `Picture`.

    Transparent pixels show the neutral grey of ImageNet's mean. 16-bit values are divided by 257; floating point values
    are scaled so that the smallest becomes black and the largest white.

    Args:
        image: the image to convert.
        min_size: (h, w) px to which a large picture must not be shrunk.
        what: beginning of error messages.
    Raises:
        UserError: if Pillow cannot decode it.
    """
    with _pillow_errors(what):
        image.load()
    orientation = _orientation(image)
    size = _upright_size(image, orientation)
    return Picture(_upright(image, orientation, shrinking(size, min_size), what), size)


def array_to_picture(array: np.ndarray, min_size: tuple[int, int] = (1, 1)) -> Picture:
    """Converts an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 to a picture.

    Raises:
        UserError: for another shape or dtype.
    """
    shape = array.shape
    if len(shape) not in (2, 3) or not array.size or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise UserError(f"image: needed the shape (H, W), (H, W, 3) or (H, W, 4), found {shape}")
    if array.dtype not in (np.uint8, np.uint16):
        raise UserError(f"image: needed uint8 or uint16, found {array.dtype}")
    return to_picture(Image.fromarray(array if array.dtype == np.uint8 else _eight_bits(array)), min_size)


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation of a picture."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF may raise anything; the picture itself is sound
        return 1
    return value if isinstance(value, int) else 1


def _upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Returns the size (H, W) px of the upright picture."""
    return (image.width, image.height) if 5 <= orientation <= 8 else (image.height, image.width)


def _upright(image: Image.Image, orientation: int, factor: int, what: str) -> np.ndarray:
    """Returns a decoded picture shrunk by an integer factor and turned upright, (h, w, 3) uint8 RGB."""
    if image.width * image.height <= _LARGE:
        rgb = _rgb(image, what)
    else:
        # Large pictures strip by strip, since conversion makes several copies.
        rgb = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
        rows = max(1, _STRIP // image.width // factor) * factor
        span = _span(image, rows) if image.mode == "F" else None
        for top in range(0, image.height, rows):
            strip = _rgb(_strip(image, top, rows), what, span)
            rgb.paste(strip.reduce(factor), (0, top // factor))
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return np.asarray(rgb)


def _strip(image: Image.Image, top: int, rows: int) -> Image.Image:
    return image.crop((0, top, image.width, min(top + rows, image.height)))


def _span(image: Image.Image, rows: int) -> tuple[float, float]:
    """Returns the smallest and the largest value of a floating point picture."""
    low, high = np.inf, -np.inf
    for top in range(0, image.height, rows):
        values = _finite(np.asarray(_strip(image, top, rows)))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _rgb(image: Image.Image, what: str, span: tuple[float, float] | None = None) -> Image.Image:
    """Converts a decoded picture to RGB; ``span`` is the value range of the picture that a part belongs to."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image), span))
    with _pillow_errors(what):
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            over = Image.new("RGBA", image.size, (*PAD_COLOR, 255))
            over.alpha_composite(image.convert("RGBA"))
            image = over
        return image.convert("RGB")


def _eight_bits(values: np.ndarray, span: tuple[float, float] | None = None) -> np.ndarray:
    """Scales values of any dtype to 0 to 255."""
    if np.issubdtype(values.dtype, np.integer):
        return ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    values = _finite(values)
    low, high = span or (values.min(), values.max())
    return np.round((values - low) * 255 / max(high - low, 1e-300)).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
