"""The Cityscapes layout on disk: file names, PNG and JSON coding, one reader and one writer for each kind of file.

<root>/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png     8-bit RGB
<root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png      8-bit class ids
<root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_instanceIds.png   16-bit, id * 1000 + k
<root>/disparity/<split>/<city>/<city>_<seq>_<frame>_disparity.png         16-bit, see `decode_disparity`
<root>/camera/<split>/<city>/<city>_<seq>_<frame>_camera.json
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from multitask.data import png
from multitask.data.png_chunks import GREY, PALETTE, Damaged, Header
from multitask.data.png_chunks import read_header as read_png_header
from multitask.data.reading import opened, read_text
from multitask.errors import UserError
from multitask.files import atomic_writer

SUFFIX: dict[str, tuple[str, str]] = {
    "image": ("leftImg8bit", "_leftImg8bit.png"),
    "class_ids": ("gtFine", "_gtFine_labelIds.png"),
    "instance_ids": ("gtFine", "_gtFine_instanceIds.png"),
    "disparity": ("disparity", "_disparity.png"),
    "camera": ("camera", "_camera.json"),
}
"""Top folder and end of the file name, by kind of file."""

INDICES = "indices"
"""Kind of file whose values are palette indices, whatever the colours, or 8-bit greys."""

_DEEP = ("instance_ids", "disparity")
"""Kinds of file with 16 bits."""

_MOST_DEEP = 150_000_000
"""Largest number of pixels of a file of those kinds, which are processed as 32-bit numbers."""


def file_path(root: Path, kind: str, split: str, name: str) -> Path:
    """Returns the path of one file of frame ``name`` (``<city>_<seq>_<frame>``)."""
    folder, suffix = SUFFIX[kind]
    return root / folder / split / city_of(name) / (name + suffix)


def city_of(name: str) -> str:
    """Returns the city of frame ``name``: all but the last two parts, since a city's name may hold underscores."""
    return name.rsplit("_", 2)[0]


def read_png(path: Path, kind: str) -> np.ndarray:
    """Reads the values of one PNG as they are stored.

    Args:
        path: the file.
        kind: a key of `SUFFIX` other than ``camera``, or `INDICES`.
    Returns:
        (H, W, 3) uint8 for images, (H, W) uint8 for class ids and `INDICES`, (H, W) uint16 for instance ids and
        disparity.
    Raises:
        UserError: naming the file, if it is missing, damaged, or of a wrong bit depth or coding.
    """
    with _opened(path) as file:
        header = read_png_header(file)
        _check_coding(path, kind, header)
        pixels = png.read_pixels(file, header, indices=kind == INDICES)
    return _deep(path, header, pixels) if kind in _DEEP else pixels


def read_header(path: Path, kind: str, *, verify_checksums: bool = False) -> tuple[int, int]:
    """Returns the size (H, W) px of one PNG, and checks its coding and end, and optionally all checksums.

    The pixels are not decoded. Raises the errors of `read_png`.
    """
    with _opened(path) as file:
        header = png.check(file) if verify_checksums else read_png_header(file)
        _check_coding(path, kind, header)
        if kind in _DEEP and header.depth < 16:
            _deep(path, header, png.read_pixels(file, header))
    return header.height, header.width


def check_rows(path: Path) -> None:
    """Checks that a PNG that `read_png` has read holds exactly its rows.

    Raises:
        UserError: naming the file.
    """
    with opened(path) as file:
        try:
            png.check_rows(file, read_png_header(file))
        except Damaged as error:
            raise UserError(f"{path}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a PNG within ``with``; damage found there becomes an error that names the file."""
    with opened(path) as file:
        try:
            yield file
        except Damaged as error:
            raise UserError(f"{path}: not a readable PNG, found {path.stat().st_size} bytes ({error})") from error


def _check_coding(path: Path, kind: str, header: Header) -> None:
    """Refuses a PNG whose colour type or bit depth does not suit its kind."""
    if kind == "image":
        needed, is_right = "8-bit RGB", header.is_rgb and header.depth == 8
    elif kind == INDICES:
        needed, is_right = "8-bit palette or grey", header.color in (GREY, PALETTE) and header.depth <= 8
    elif kind in _DEEP:
        needed, is_right = "16-bit single-channel (grey)", header.is_grey
    else:
        needed, is_right = "8-bit single-channel (grey)", header.is_grey and header.depth <= 8
    if not is_right:
        raise UserError(f"{path}: needed {needed}, found {header.words}")
    if kind in _DEEP and header.height * header.width > _MOST_DEEP:
        raise UserError(f"{path}: needed at most {_MOST_DEEP} px, found {header.height} x {header.width}")


def _deep(path: Path, header: Header, pixels: np.ndarray) -> np.ndarray:
    """Returns the pixels (H, W) uint16 of a file of a 16-bit kind.

    Lossless PNG optimisers write fewer bits where both bytes of every pixel are equal, which real files are only if
    they are zero everywhere. Any other 8-bit values are a mistake, such as a visualisation of the disparity.
    """
    if header.depth < 16 and pixels.any():
        raise UserError(f"{path}: needed 16-bit single-channel (grey), found {header.words}")
    return pixels.astype(np.uint16, copy=False)


def are_intact(paths: Mapping[str, Path], size: tuple[int, int]) -> bool:
    """Whether all given files of a frame, by kind, exist, have correct checksums, and have the size (H, W) px."""
    try:
        for kind, path in paths.items():
            if kind == "camera":
                read_camera(path)
            elif read_header(path, kind, verify_checksums=True) != size:
                return False
    except UserError:
        return False
    return True


def write_png(path: Path, array: np.ndarray) -> None:
    """Writes (H, W, 3) uint8, (H, W) uint8 or (H, W) uint16 losslessly and atomically.

    It is not flushed to disk, since there are thousands: a power cut may damage the newest, as their checksums show.
    """
    with atomic_writer(path, durable=False) as file:
        # Level 1 writes these pictures about four times faster than the default for a tenth more bytes.
        Image.fromarray(array).save(file, format="PNG", compress_level=1)


def decode_disparity(coded: np.ndarray) -> np.ndarray:
    """Decodes (H, W) uint16 p to (H, W) float32 px: ``(p - 1) / 256``; p = 0 is invalid, NaN, and p = 1 is 0 px."""
    disparity = coded.astype(np.float32)
    disparity -= 1
    disparity /= 256
    disparity[coded == 0] = np.nan
    return disparity


def encode_disparity(disparity: np.ndarray) -> np.ndarray:
    """Inverts `decode_disparity`: px, NaN for invalid -> uint16; values beyond 16 bits become invalid."""
    coded = np.round(np.nan_to_num(disparity, nan=-1.0) * 256) + 1
    return np.where((coded >= 1) & (coded <= 65535), coded, 0).astype(np.uint16)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of one frame, as in ``camera.json``, in px of the image it belongs to.

    Attributes:
        baseline: distance of the two stereo cameras, m.
        fx, fy: focal lengths, px.
        u0, v0: principal point, px.
        x, y, z: position in the vehicle's frame, m (z is the height over the road).
        yaw, pitch, roll: orientation in the vehicle's frame, rad.
    """

    baseline: float
    fx: float
    fy: float
    u0: float
    v0: float
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def scaled(self, kx: float, ky: float) -> "Camera":
        """Returns the camera of the same picture resized by ``kx`` across and ``ky`` down."""
        return replace(
            self,
            fx=self.fx * kx,
            fy=self.fy * ky,
            # Pixel centres are at integers, so the picture's corner is at -1/2.
            u0=(self.u0 + 0.5) * kx - 0.5,
            v0=(self.v0 + 0.5) * ky - 0.5,
        )

    def cropped(self, left: float, top: float) -> "Camera":
        """Returns the camera of the picture cropped to begin at column ``left`` and row ``top``."""
        return replace(self, u0=self.u0 - left, v0=self.v0 - top)

    def flipped(self, width: int) -> "Camera":
        """Returns the camera of the mirrored picture, ``width`` px wide."""
        return replace(self, u0=width - 1 - self.u0, y=-self.y, yaw=-self.yaw, roll=-self.roll)


_INTRINSIC = ("fx", "fy", "u0", "v0")
_EXTRINSIC = ("baseline", "x", "y", "z", "yaw", "pitch", "roll")


def read_camera(path: Path) -> Camera:
    """Reads ``camera.json``.

    Raises:
        UserError: naming the file, if it is missing, not JSON, or lacks a required number.
    """
    text = read_text(path)
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    values = {key: _number(path, content, "intrinsic", key) for key in _INTRINSIC}
    values |= {key: _number(path, content, "extrinsic", key) for key in _EXTRINSIC}
    for key in ("fx", "fy", "baseline"):
        if not values[key] > 0:
            raise UserError(f"{path}: needed {key} > 0, found {values[key]}")
    return Camera(**values)


def _number(path: Path, content: Any, group: str, key: str) -> float:
    """Returns a number from a camera file; neither true nor "5" counts as one."""
    values = content.get(group) if isinstance(content, dict) else None
    value = values.get(key) if isinstance(values, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    found = "none" if value is None else "a table" if isinstance(value, dict | list) else json.dumps(value)[:40]
    raise UserError(f"{path}: needed a number at {group}.{key}, found {found}")


def write_camera(path: Path, camera: Camera) -> None:
    """Writes ``camera.json`` atomically."""
    values = asdict(camera)
    content = {
        "extrinsic": {key: values[key] for key in _EXTRINSIC},
        "intrinsic": {key: values[key] for key in _INTRINSIC},
    }
    with atomic_writer(path, durable=False) as file:  # not flushed, as in `write_png`
        file.write(f"{json.dumps(content, indent=4)}\n".encode())
