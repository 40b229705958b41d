"""Frames of videos, through PyAV: the extra ``video``."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from multitask.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def require_pyav(path: Path) -> Any:
    """PyAV's module.

    Raises:
        UserError: naming the video that needs it, if it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError:
        raise UserError(f"{path}: videos need PyAV: pip install -e '.[video]'") from None


def num_frames(path: Path) -> int:
    """How many frames a video says it has, or 0 if it does not say or cannot be read."""
    av = require_pyav(path)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.frames:
                return int(stream.frames)
            return int(container.duration / av.time_base * stream.average_rate)
    except (av.FFmpegError, OSError, LookupError, TypeError, ValueError):
        return 0


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video in order, upright, (H, W, 3) uint8 RGB.

    Raises:
        UserError: naming the file, if it holds no frame, or is damaged: after the frames before the damage.
    """
    av = require_pyav(path)
    count = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0) if container.streams.video else ():
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
                count += 1
    except EOFError:  # what FFmpeg says of a file that ends before its first frame
        pass
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not a readable video beyond its first {count} frames ({reason})") from error
    if not count:
        raise UserError(f"{path}: needed a video with frames, found none in {path.stat().st_size} bytes")
