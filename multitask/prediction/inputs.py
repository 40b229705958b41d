"""Which files to predict, and what the results of each are called."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from multitask.errors import UserError
from multitask.prediction.video import is_video, require_pyav

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"),
    *(".heic", ".heif", ".avif"),  # which are not read: named at the end, so that none goes missing silently
)
"""What the names of pictures end with, where a folder is searched."""


class Source(NamedTuple):
    """A picture or a video.

    Attributes:
        path: the file.
        name: of its results, with ``/`` for folders and without ending: no two sources have the same.
    """

    path: Path
    name: str


def find_sources(given: str) -> list[Source]:
    """The files that ``input=`` names, sorted.

    Args:
        given: a file; a folder, searched with all folders below it for pictures, not for hidden ones; or a pattern
            such as ``photos/*.jpg``, in which ``**`` stands for any folders.
    Raises:
        UserError: if there is nothing of this name, or no picture in the folder; if a video needs PyAV.
    """
    path = Path(given)
    if path.is_dir():
        root, paths = path, sorted(_pictures_below(path))
        if not paths:
            raise UserError(f"input={given}: needed a folder with pictures ({' '.join(PICTURE_SUFFIXES)}), found none")
    elif path.exists():
        root, paths = path.parent, [path]
    else:
        paths = sorted(Path(found) for found in glob.glob(given, recursive=True) if not Path(found).is_dir())
        if not paths:
            raise UserError(f"input={given}: needed a file, a folder or a pattern of files, found no such thing")
        root = Path(os.path.commonpath([found.parent for found in paths]))
    for found in filter(is_video, paths):
        require_pyav(found)
    return _named(root, paths)


def _pictures_below(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        # A link to a folder above it would never end.
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        for name in files:
            if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith("."):
                yield Path(place, name)


def _named(root: Path, paths: list[Path]) -> list[Source]:
    """Names without endings, but with them where two files would get the same on any file system."""
    whole = [path.relative_to(root) for path in paths]
    names = [path.with_suffix("").as_posix() for path in whole]
    kept: set[int] = set()
    # A name that keeps its ending may be that of a file without: "a.jpg" beside "a.jpg.png".
    while clashing := _clashing(paths, names) - kept:
        kept |= clashing
        for index in clashing:
            names[index] = whole[index].as_posix()
    return [Source(path, name) for path, name in zip(paths, names, strict=True)]


def _clashing(paths: Sequence[Path], names: Sequence[str]) -> set[int]:
    """Which of the names another file has, too."""
    counts = Counter(name.casefold() for name in names)
    return {
        index
        for index, (path, name) in enumerate(zip(paths, names, strict=True))
        # Frames of a video "a" are a_000000 and so on.
        if counts[name.casefold()] > 1
        or (is_video(path) and any(other.startswith(f"{name}_".casefold()) for other in counts))
    }


def printable(text: str) -> str:
    """A text with the name of a file, which may hold anything, as one line that every terminal shows."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
