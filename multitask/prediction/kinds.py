"""Kinds of files: pictures, videos, others, and special files such as pipes, reading which might never end."""

import functools
import importlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from multitask.errors import UserError, reason

PHOTOGRAPHS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's formats that are tried for every file; any other format only if the file's extension names it."""

_NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
"""Formats whose readers start another program (EPS), pass their content to any other reader, or cannot read."""

_HEIF_SUFFIXES = (".avif", ".heic", ".heif", ".hif")
"""Extensions of pictures that Pillow may not support: they are tried and reported, not skipped silently."""

_VIDEOS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2t", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
"""Extensions of videos that are known without PyAV."""

_CONTAINERS = (
    *("3g2", "3gp", "amv", "asf", "avi", "dv", "dvd", "f4v", "flv", "gxf", "h261", "h263", "h264", "hevc", "ismv"),
    *("ivf", "m4v", "matroska", "mjpeg", "mov", "mp4", "mpeg", "mpeg1video", "mpeg2video", "mpegts", "mxf", "nut"),
    *("obu", "ogv", "rm", "roq", "svcd", "swf", "vc1", "vob", "vvc", "webm", "wtv", "yuv4mpegpipe"),
)
"""PyAV's names of video containers: it knows their extensions, but not which containers are for sound or text."""

_SOUNDS = (".isma", ".ra", ".wma")
_PROGRAMS = (".mts", ".ts")
"""Extensions that videos share with source files such as TypeScript."""

_BEGINNING = 600
"""Number of first bytes from which a video is recognised."""

_PICTURES_IN_MP4 = (b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"mif1", b"msf1")
_SIGNATURES = (b"\x1aE\xdf\xa3", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\1\xba", b"\0\0\1\xb3")
"""First bytes of Matroska and WebM, FLV, ASF (WMV) and MPEG."""


def pyav() -> Any:
    """Returns PyAV's module, or None if it is not installed."""
    try:
        return importlib.import_module("av")
    except ImportError:
        return None


@functools.cache
def _formats() -> dict[str, str]:
    """Returns Pillow's format by lower-case file extension."""
    known = Image.registered_extensions()
    # Pillow's JPEG reader recognises MPO, which is JPEG with several pictures.
    readable = {*Image.OPEN, "MPO"}.difference(_NO_PICTURES)
    return {suffix: name for suffix, name in known.items() if name in readable}


def readers(path: Path) -> list[str]:
    """Returns the Pillow formats to try for a file."""
    return list(dict.fromkeys([*PHOTOGRAPHS, _formats().get(path.suffix.lower(), PHOTOGRAPHS[0])]))


@functools.cache
def video_suffixes() -> frozenset[str]:
    """Returns the lower-case extensions of videos, with PyAV all that it knows."""
    suffixes = set(_VIDEOS)
    if av := pyav():
        for name in av.formats_available.intersection(_CONTAINERS):
            suffixes |= {f".{ending}" for ending in av.ContainerFormat(name, "w").extensions}
    return frozenset(suffixes.difference(_SOUNDS, _formats()))


def is_medium(path: Path) -> bool:
    """Whether a file is a picture or a video by its extension, and not a source file with that extension."""
    suffix = path.suffix.lower()
    if suffix in _PROGRAMS and path.is_file() and b"\0" not in beginning(path):
        return False
    return suffix in _formats() or suffix in _HEIF_SUFFIXES or suffix in video_suffixes()


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its extension or its first bytes."""
    return path.suffix.lower() in video_suffixes() or _begins_as_video(beginning(path))


def beginning(path: Path) -> bytes:
    """Returns a file's first bytes; empty if it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read(_BEGINNING)
    except (UserError, OSError):
        return b""


def _begins_as_video(start: bytes) -> bool:
    if start[4:8] == b"ftyp":  # the MP4 family, to which the picture formats HEIC and AVIF belong
        return start[8:12] not in _PICTURES_IN_MP4
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    if any(start[at : at + 2 * size + 1 : size] == b"GGG" for at, size in ((0, 188), (4, 192))):
        return not start.startswith(b"GIF8")  # packets of MPEG's transport stream
    return start.startswith(_SIGNATURES)


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading; never blocks on a pipe or a device.

    Raises:
        UserError: naming it, if it is missing, cannot be read, or is not a regular file.
    """
    if "\0" in str(path):
        raise UserError(f"{path}: no such file")
    try:
        what = special(path.stat().st_mode)
        if not what:
            # Without blocking, since a pipe may have replaced the file meanwhile.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            what = special(os.fstat(descriptor).st_mode)
            if not what:
                return os.fdopen(descriptor, "rb")
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: could not be read ({reason(error)})") from error
    raise UserError(f"{path}: needed a file, found {what}")


def special(mode: int) -> str | None:
    """Describes a special file, such as "a pipe", by its ``st_mode``; returns None for a regular file."""
    names = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return None if stat.S_ISREG(mode) else names.get(stat.S_IFMT(mode), "a device")
