"""Reading the frames of videos with PyAV, the optional extra ``video``."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from multitask.errors import UserError, reason
from multitask.prediction.decoding import Picture, most_pixels, one_at_a_time, shrinking
from multitask.prediction.kinds import open_file, pyav

_NO_PROTOCOLS = {"protocol_whitelist": "none"}
"""FFmpeg options that keep playlists, which may pass as videos, from opening other files or network addresses."""


_NO_FRAMES = "needed a video with frames, found none"


def require_pyav(path: Path) -> Any:
    """Returns PyAV's module.

    Raises:
        UserError: naming the video that needs it, if it is not installed.
    """
    if av := pyav():
        return av
    raise UserError(f"{path}: videos need PyAV: pip install -e '.[video]'")


def num_frames(path: Path) -> int:
    """Returns the number of frames according to a video's header, or 0 if it is unknown or cannot be read."""
    try:
        with _opened(path) as container:
            for stream in _streams(container):
                if stream.frames or not (container.duration and stream.average_rate):
                    return int(stream.frames)
                return max(0, int(container.duration / pyav().time_base * stream.average_rate))
    except UserError:
        pass
    return 0


def read_frames(path: Path, min_size: tuple[int, int] = (1, 1)) -> Iterator[Picture]:
    """Yields the frames of a video in order, upright and with square pixels.

    Frames of a video with wide pixels are stretched in width, frames with tall pixels in height.

    Args:
        path: the file.
        min_size: (h, w) px to which large frames must not be shrunk.
    Raises:
        UserError: naming the file, if it has no frame, or is damaged, after the frames before the damage.
    """
    count = 0
    with _opened(path) as container:
        for stream in _streams(container):
            _check_size(path, stream.height, stream.width)
            stream.codec_context.options = _bounds()
            ratio = getattr(stream, "sample_aspect_ratio", None) or stream.codec_context.sample_aspect_ratio
            frames = iter(container.decode(stream))
            while (frame := _next(frames, path, count)) is not None:
                yield _picture(path, frame, ratio or Fraction(1), min_size, count)
                count += 1
    if not count:
        raise UserError(f"{path}: {_NO_FRAMES}")


def _next(frames: Iterator[Any], path: Path, count: int) -> Any:
    """Returns the next frame of a video, or None at its end."""
    with _ffmpeg_errors(path, count):
        try:
            return next(frames, None)
        except EOFError:  # FFmpeg's error for a truncated file
            return None


def _streams(container: Any) -> list[Any]:
    """Returns the first video stream of a file in a list, which is empty if FFmpeg does not know its codec."""
    return [stream for stream in container.streams.video if stream.codec_context][:1]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a video with PyAV as a file object, so that no file name is taken for a network address."""
    av = require_pyav(path)
    with open_file(path) as file:
        with _ffmpeg_errors(path, 0):
            container = av.open(file, options=_NO_PROTOCOLS | _bounds(), metadata_errors="replace")
        with container:
            yield container


def _bounds() -> dict[str, str]:
    """Returns FFmpeg options against allocating much too large frames; the limit includes edges and padding."""
    return {"max_pixels": str(2 * most + 2**16)} if (most := most_pixels()) else {}


def _check_size(path: Path, height: int, width: int) -> None:
    if (most := most_pixels()) and height * width > most:
        raise UserError(f"{path}: needed frames of at most {most} px (largest=), found {height} x {width}")


@contextmanager
def _ffmpeg_errors(path: Path, count: int) -> Iterator[None]:
    """Converts any error of PyAV to a `UserError`: its type depends on the damaged byte."""
    try:
        yield
    except EOFError as error:
        raise UserError(f"{path}: {_NO_FRAMES}") from error
    except Exception as error:
        why = getattr(error, "strerror", None) or reason(error)
        raise UserError(f"{path}: not a readable video beyond its first {count} frames ({why})") from error


def _picture(path: Path, frame: Any, ratio: Fraction, min_size: tuple[int, int], count: int) -> Picture:
    height, width = _square(frame.height, frame.width, ratio)
    _check_size(path, height, width)
    turns = round(frame.rotation / 90) % 4
    size = (width, height) if turns % 2 else (height, width)
    factor = shrinking(size, min_size)
    with one_at_a_time(height * width), _ffmpeg_errors(path, count):
        small = frame.reformat(width=-(-width // factor), height=-(-height // factor), format="rgb24")
        pixels = small.to_ndarray()
    return Picture(np.ascontiguousarray(np.rot90(pixels, turns)), size)


def _square(height: int, width: int, ratio: Fraction) -> tuple[int, int]:
    """Returns the size (H, W) px of a frame after its pixels are made square.

    Args:
        height: height of the frame, px.
        width: width of the frame, px.
        ratio: pixel aspect ratio, width over height.
    """
    if ratio <= 0:
        return height, width
    return (height, round(width * ratio)) if ratio >= 1 else (round(height / ratio), width)
