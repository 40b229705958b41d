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
"""Kind of file -> (top folder, how its name ends)."""

INDICES = "indices"
"""A kind of file whose numbers are the pixels' places in a palette, whatever its colours, or greys of 8 bits."""

_DEEP = ("instance_ids", "disparity")
"""Kinds of 16 bits."""

_MOST_DEEP = 150_000_000
"""Pixels of the largest file of those kinds, since they are worked on in numbers of 32 bits."""


def file_path(root: Path, kind: str, split: str, name: str) -> Path:
    """Path of one file of frame ``name`` (``<city>_<seq>_<frame>``)."""
    folder, suffix = SUFFIX[kind]
    return root / folder / split / city_of(name) / (name + suffix)


def city_of(name: str) -> str:
    """City of frame ``name``: all but the last two parts, since a city's name may hold underscores."""
    return name.rsplit("_", 2)[0]


def read_png(path: Path, kind: str) -> np.ndarray:
    """Reads one PNG as it is coded on disk.

    Args:
        path: the file.
        kind: a key of `SUFFIX` other than ``camera``, or `INDICES`.
    Returns:
        (H, W, 3) uint8 for images, (H, W) uint8 for class ids and `INDICES`, (H, W) uint16 for instance ids and
        disparity.
    Raises:
        UserError: naming the file, if it is missing, damaged, or of another bit depth or coding.
    """
    with _opened(path) as file:
        header = read_png_header(file)
        _check_coding(path, kind, header)
        pixels = png.read_pixels(file, header, indices=kind == INDICES)
    return _deep(path, header, pixels) if kind in _DEEP else pixels


def read_header(path: Path, kind: str, *, whole: bool = False) -> tuple[int, int]:
    """(H, W) px of one PNG, whose coding and end are checked; with ``whole`` all check sums are compared, too.

    Its pixels are not decoded. Raises as `read_png` does.
    """
    with _opened(path) as file:
        header = png.check(file) if whole else read_png_header(file)
        _check_coding(path, kind, header)
        if kind in _DEEP and header.depth < 16:
            _deep(path, header, png.read_pixels(file, header))
    return header.height, header.width


def check_rows(path: Path) -> None:
    """Checks that a PNG, which `read_png` has read, holds all rows and no more.

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
    """A PNG to read in ``with``, where what is wrong with it becomes an error that names it."""
    with opened(path) as file:
        try:
            yield file
        except Damaged as error:
            raise UserError(f"{path}: not a readable PNG, found {path.stat().st_size} bytes ({error})") from error


def _check_coding(path: Path, kind: str, header: Header) -> None:
    """Refuses colours where ids are needed, and the like."""
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
    """Pixels (H, W) uint16 of a kind that has 16 bits.

    What makes PNGs smaller without loss writes fewer bits where both bytes of every pixel are alike: of real files in
    those alone that are zero everywhere. Any other values of 8 bits are a mistake, such as a picture of the disparity.
    """
    if header.depth < 16 and pixels.any():
        raise UserError(f"{path}: needed 16-bit single-channel (grey), found {header.words}")
    return pixels.astype(np.uint16, copy=False)


def are_whole(paths: Mapping[str, Path], size: tuple[int, int]) -> bool:
    """Whether a frame's files, by kind, are there, have the check sums that they say, and are of one size (H, W) px."""
    try:
        for kind, path in paths.items():
            if kind == "camera":
                read_camera(path)
            elif read_header(path, kind, whole=True) != size:
                return False
    except UserError:
        return False
    return True


def write_png(path: Path, array: np.ndarray) -> None:
    """Writes (H, W, 3) uint8, (H, W) uint8 or (H, W) uint16 losslessly; the file appears whole or not at all.

    There are thousands of these: a power cut may tear the newest, which their check sums then say.
    """
    with atomic_writer(path, durable=False) as file:
        # Level 1 writes these pictures about four times faster than the default for a tenth more bytes.
        Image.fromarray(array).save(file, format="PNG", compress_level=1)


def decode_disparity(coded: np.ndarray) -> np.ndarray:
    """(H, W) uint16 p -> (H, W) float32 px: ``(p - 1) / 256``; p = 0 is invalid and becomes NaN, p = 1 is 0 px."""
    disparity = coded.astype(np.float32)
    disparity -= 1
    disparity /= 256
    disparity[coded == 0] = np.nan
    return disparity


def encode_disparity(disparity: np.ndarray) -> np.ndarray:
    """Inverse of `decode_disparity`: px, NaN for invalid -> uint16; values beyond 16 bits become invalid."""
    coded = np.round(np.nan_to_num(disparity, nan=-1.0) * 256) + 1
    return np.where((coded >= 1) & (coded <= 65535), coded, 0).astype(np.uint16)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of one frame: as ``camera.json`` has it, in px of the image it belongs to.

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
        """The camera of the same picture resized by ``kx`` across and ``ky`` down."""
        return replace(
            self,
            fx=self.fx * kx,
            fy=self.fy * ky,
            # Pixel centres are at whole numbers, so the picture's corner is at -1/2.
            u0=(self.u0 + 0.5) * kx - 0.5,
            v0=(self.v0 + 0.5) * ky - 0.5,
        )

    def cropped(self, left: float, top: float) -> "Camera":
        """The camera of the picture whose first pixel was at column ``left`` and row ``top``."""
        return replace(self, u0=self.u0 - left, v0=self.v0 - top)

    def flipped(self, width: int) -> "Camera":
        """The camera of the mirrored picture, ``width`` px wide."""
        return replace(self, u0=width - 1 - self.u0, y=-self.y, yaw=-self.yaw, roll=-self.roll)


_INTRINSIC = ("fx", "fy", "u0", "v0")
_EXTRINSIC = ("baseline", "x", "y", "z", "yaw", "pitch", "roll")


def read_camera(path: Path) -> Camera:
    """Reads ``camera.json``.

    Raises:
        UserError: naming the file, if it is missing, not JSON, or lacks a number that is needed.
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
    """A number of a camera's file; neither true nor "5" is one."""
    values = content.get(group) if isinstance(content, dict) else None
    value = values.get(key) if isinstance(values, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    found = "none" if value is None else "a table" if isinstance(value, dict | list) else json.dumps(value)[:40]
    raise UserError(f"{path}: needed a number at {group}.{key}, found {found}")


def write_camera(path: Path, camera: Camera) -> None:
    """Writes ``camera.json``; the file appears whole or not at all."""
    values = asdict(camera)
    content = {
        "extrinsic": {key: values[key] for key in _EXTRINSIC},
        "intrinsic": {key: values[key] for key in _INTRINSIC},
    }
    with atomic_writer(path, durable=False) as file:  # as in `write_png`
        file.write(f"{json.dumps(content, indent=4)}\n".encode())
