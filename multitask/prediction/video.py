"""Frames of videos, through PyAV: the extra ``video``."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from multitask.errors import UserError, reason
from multitask.prediction.decoding import Picture, most_pixels, one_at_a_time, shrinking
from multitask.prediction.kinds import open_file, pyav

_ALONE = {"protocol_whitelist": "none"}
"""Lists of films, which videos may be, open no other file and no address."""


_NO_FRAMES = "needed a video with frames, found none"


def require_pyav(path: Path) -> Any:
    """PyAV's module.

    Raises:
        UserError: naming the video that needs it, if it is not installed.
    """
    if av := pyav():
        return av
    raise UserError(f"{path}: videos need PyAV: pip install -e '.[video]'")


def num_frames(path: Path) -> int:
    """How many frames a video says it has, or 0 if it does not say or cannot be read."""
    try:
        with _opened(path) as container:
            for stream in _streams(container):
                if stream.frames or not (container.duration and stream.average_rate):
                    return int(stream.frames)
                return max(0, int(container.duration / pyav().time_base * stream.average_rate))
    except UserError:
        pass
    return 0


def read_frames(path: Path, least: tuple[int, int] = (1, 1)) -> Iterator[Picture]:
    """The frames of a video in order, upright and of square pixels.

    Where the pixels of a video are wider than high its frames are made wider, else higher.

    Args:
        path: the file.
        least: (h, w) px that are needed of each frame, if it has them.
    Raises:
        UserError: naming the file, if it holds no frame, or is damaged: after the frames before the damage.
    """
    count = 0
    with _opened(path) as container:
        for stream in _streams(container):
            _check_size(path, stream.height, stream.width)
            stream.codec_context.options = _bounds()
            ratio = getattr(stream, "sample_aspect_ratio", None) or stream.codec_context.sample_aspect_ratio
            frames = iter(container.decode(stream))
            while (frame := _next(frames, path, count)) is not None:
                yield _picture(path, frame, ratio or Fraction(1), least, count)
                count += 1
    if not count:
        raise UserError(f"{path}: {_NO_FRAMES}")


def _next(frames: Iterator[Any], path: Path, count: int) -> Any:
    """The next frame of a video, or None at its end."""
    with _ffmpegs_errors(path, count):
        try:
            return next(frames, None)
        except EOFError:  # what FFmpeg says where a file ends early
            return None


def _streams(container: Any) -> list[Any]:
    """The first video in a file, if it is coded in a way that FFmpeg knows."""
    return [stream for stream in container.streams.video if stream.codec_context][:1]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A video as PyAV opens it: by what is in it, so that no name is taken for an address."""
    av = require_pyav(path)
    with open_file(path) as file:
        with _ffmpegs_errors(path, 0):
            container = av.open(file, options=_ALONE | _bounds(), metadata_errors="replace")
        with container:
            yield container


def _bounds() -> dict[str, str]:
    """Options by which FFmpeg makes room for no frame that is much too large, its edges and padding included."""
    return {"max_pixels": str(2 * most + 2**16)} if (most := most_pixels()) else {}


def _check_size(path: Path, height: int, width: int) -> None:
    if (most := most_pixels()) and height * width > most:
        raise UserError(f"{path}: needed frames of at most {most} px (largest=), found {height} x {width}")


@contextmanager
def _ffmpegs_errors(path: Path, count: int) -> Iterator[None]:
    """Makes one error of PyAV's many: which it raises depends on the byte that is damaged."""
    try:
        yield
    except EOFError as error:
        raise UserError(f"{path}: {_NO_FRAMES}") from error
    except Exception as error:
        why = getattr(error, "strerror", None) or reason(error)
        raise UserError(f"{path}: not a readable video beyond its first {count} frames ({why})") from error


def _picture(path: Path, frame: Any, ratio: Fraction, least: tuple[int, int], count: int) -> Picture:
    height, width = _square(frame.height, frame.width, ratio)
    _check_size(path, height, width)
    turns = round(frame.rotation / 90) % 4
    size = (width, height) if turns % 2 else (height, width)
    factor = shrinking(size, least)
    with one_at_a_time(height * width), _ffmpegs_errors(path, count):
        small = frame.reformat(width=-(-width // factor), height=-(-height // factor), format="rgb24")
        pixels = small.to_ndarray()
    return Picture(np.ascontiguousarray(np.rot90(pixels, turns)), size)


def _square(height: int, width: int, ratio: Fraction) -> tuple[int, int]:
    """The size (H, W) px of a frame once its pixels are square.

    Args:
        height: of the frame, px.
        width: of the frame, px.
        ratio: of a pixel's width to its height.
    """
    if ratio <= 0:
        return height, width
    return (height, round(width * ratio)) if ratio >= 1 else (round(height / ratio), width)
