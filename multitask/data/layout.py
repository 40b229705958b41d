"""The Cityscapes layout on disk: file names, PNG and JSON coding, one reader and one writer for each kind of file.

<root>/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png     8-bit RGB
<root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png      8-bit class ids
<root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_instanceIds.png   16-bit, id * 1000 + k
<root>/disparity/<split>/<city>/<city>_<seq>_<frame>_disparity.png         16-bit, see `decode_disparity`
<root>/camera/<split>/<city>/<city>_<seq>_<frame>_camera.json
"""

import io
import json
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from multitask.data.png import checked, mode_of
from multitask.errors import UserError
from multitask.files import whole, write_text

SUFFIX: dict[str, tuple[str, str]] = {
    "image": ("leftImg8bit", "_leftImg8bit.png"),
    "class_ids": ("gtFine", "_gtFine_labelIds.png"),
    "instance_ids": ("gtFine", "_gtFine_instanceIds.png"),
    "disparity": ("disparity", "_disparity.png"),
    "camera": ("camera", "_camera.json"),
}
"""Kind of file -> (top folder, how its name ends)."""

_MODES: dict[str, tuple[tuple[str, ...], str]] = {
    "image": (("RGB",), "8-bit RGB"),
    "class_ids": (("L", "P"), "8-bit single-channel"),
    # Pillow opens a 16-bit grey PNG as "I" before 11.3 and as "I;16" from then on.
    "instance_ids": (("I", "I;16", "I;16B"), "16-bit single-channel"),
    "disparity": (("I", "I;16", "I;16B"), "16-bit single-channel"),
}

_DAMAGED = (OSError, SyntaxError, ValueError, LookupError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for a broken PNG: it depends on the chunk that is broken."""


_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


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
        kind: a key of `SUFFIX` other than ``camera``.
    Returns:
        (H, W, 3) uint8 for images, (H, W) uint8 for class ids, (H, W) uint16 for instance ids and disparity.
    Raises:
        UserError: naming the file, if it is missing, damaged, or of another bit depth or mode.
    """
    with _opened(path, kind, whole=True) as image:
        array = np.asarray(image)
    return array.astype(np.uint16) if kind in ("instance_ids", "disparity") else array


def read_header(path: Path, kind: str) -> tuple[int, int]:
    """(H, W) px of one PNG, whose mode and end are checked and whose pixels are not read. Raises as `read_png` does."""
    with _opened(path, kind, whole=False) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path, kind: str, *, whole: bool) -> Iterator[Image.Image]:
    """A PNG of the right mode; with ``whole`` its check sums are compared, too."""
    modes, wanted = _MODES[kind]
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            if file.read() != _PNG_END:
                raise OSError("it has no end")
            file.seek(0)
            content: BinaryIO = io.BytesIO(checked(file.read())) if whole else file
            with Image.open(content, formats=("PNG",)) as image:
                found = mode_of(file, image)
                if found in modes:
                    yield image
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except _DAMAGED as error:
        raise UserError(f"{path}: not a readable PNG, found {path.stat().st_size} bytes ({error})") from error
    if found not in modes:
        raise UserError(f"{path}: needed {wanted}, found mode {found!r}")


def write_png(path: Path, array: np.ndarray) -> None:
    """Writes (H, W, 3) uint8, (H, W) uint8 or (H, W) uint16 losslessly; the file appears whole or not at all."""
    with whole(path) as file:
        # Level 1 writes these pictures about four times faster than the default for a tenth more bytes.
        Image.fromarray(array).save(file, format="PNG", compress_level=1)


def decode_disparity(coded: np.ndarray) -> np.ndarray:
    """(H, W) uint16 p -> (H, W) float32 px: ``(p - 1) / 256``; p = 0 is invalid and becomes NaN, p = 1 is 0 px."""
    disparity = (coded.astype(np.float32) - 1) / 256
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


def read_camera(path: Path) -> Camera:
    """Reads ``camera.json``.

    Raises:
        UserError: naming the file, if it is missing, not JSON, or lacks a number that is needed.
    """
    try:
        content: Any = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise UserError(f"{path}: not a JSON file ({error})") from error
    values: dict[str, float] = {}
    for group, keys in (("intrinsic", _INTRINSIC), ("extrinsic", ("baseline", "x", "y", "z", "yaw", "pitch", "roll"))):
        for key in keys:
            try:
                values[key] = float(content[group][key])
            except (LookupError, TypeError, ValueError, OverflowError):
                values[key] = math.nan
            if not math.isfinite(values[key]):
                raise UserError(f"{path}: needed a number at {group}.{key}, found none")
    for key in ("fx", "fy", "baseline"):
        if not values[key] > 0:
            raise UserError(f"{path}: needed {key} > 0, found {values[key]}")
    return Camera(**values)


def write_camera(path: Path, camera: Camera) -> None:
    """Writes ``camera.json``; the file appears whole or not at all."""
    values = asdict(camera)
    content = {
        "extrinsic": {key: value for key, value in values.items() if key not in _INTRINSIC},
        "intrinsic": {key: values[key] for key in _INTRINSIC},
    }
    write_text(path, json.dumps(content, indent=4) + "\n")
