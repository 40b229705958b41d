"""Which files to predict, and what the results of each are called."""

import bisect
import glob
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from multitask.errors import UserError, reason
from multitask.prediction.kinds import is_medium, is_video, special
from multitask.prediction.video import require_pyav

_MOST_NAMES = 3
"""Files that are named of those that were passed over; the others are counted."""


class Source(NamedTuple):
    """A picture or a video.

    Attributes:
        path: the file.
        name: of its results, with ``/`` for folders and without ending: no two sources have the same.
        video: whether it is a video.
    """

    path: Path
    name: str
    video: bool


class Inputs(NamedTuple):
    """What ``input=`` names.

    Attributes:
        sources: the pictures and videos, sorted.
        failures: a line for each folder that could not be searched.
        passed: the names of files that are neither pictures nor videos, and of what is no file.
    """

    sources: list[Source]
    failures: list[str]
    passed: list[str]


def find_sources(given: str, results: Path | None = None) -> Inputs:
    """The files that ``input=`` names.

    Args:
        given: a file; a folder, searched with all folders below it for pictures and videos, not for hidden ones; or a
            pattern such as ``photos/*.jpg``, in which ``**`` stands for any folders.
        results: the folder of the results, in which, and below which, nothing is searched.
    Raises:
        UserError: if there is nothing of this name, or nothing to predict; if a video that is named needs PyAV.
    """
    path = Path(given)
    failures: list[str] = []
    passed: list[str] = []
    if path.is_dir():
        root, places = path, {place: place for place in sorted(_media_below(path, results, failures, passed))}
    elif path.exists():
        if what := special(path.stat().st_mode):
            raise UserError(f"input={given}: needed a picture, a video, a folder or a pattern of files, found {what}")
        root, places = path.parent, {path: path}
    else:
        places = _matching(given, results, passed)
        root = Path(os.path.commonpath([place.parent for place in places] or [Path()]))
    if not places:
        others = "; ".join([*failures, *([passed_over(passed)] if passed else [])])
        raise UserError(f"input={given}: needed pictures or videos, found none{others and f' ({others})'}")
    videos = [is_video(found) for found in places.values()]
    if len(places) == 1 and videos[0]:
        require_pyav(next(iter(places)))
    names = _names([place.relative_to(root).as_posix() for place in places], videos)
    sources = list(map(Source, places.values(), names, videos))
    return Inputs(sources, failures, passed)


def passed_over(names: Sequence[str]) -> str:
    """One line on files that were passed over."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    files = "1 file that is" if len(names) == 1 else f"{len(names)} files that are"
    return f"passed over {files} no picture or video: {', '.join(names[:_MOST_NAMES])}{more}"


def _media_below(folder: Path, results: Path | None, failures: list[str], passed: list[str]) -> Iterator[Path]:
    """The pictures and videos in a folder and all below it; adds what else there is."""

    def note(error: OSError) -> None:
        failures.append(f"{error.filename}: could not be searched ({reason(error)})")

    seen = {os.path.realpath(results)} if results else set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=note):
        # A link to a folder above it would never end.
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for path in (Path(place, name) for name in sorted(files) if not name.startswith(".")):
            if what := _special(path):
                passed.append(f"{path.relative_to(folder)} ({what})")
            elif is_medium(path):
                yield path
            else:
                passed.append(str(path.relative_to(folder)))


def _matching(pattern: str, results: Path | None, passed: list[str]) -> dict[Path, Path]:
    """The files that match a pattern: where each is -> as it was found; one that is found on two ways, once.

    Raises:
        UserError: if nothing matches.
    """
    found = [] if "\0" in pattern else [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    if not found:
        raise UserError(f"input={pattern}: needed a file, a folder or a pattern of files, found no such thing")
    places: dict[Path, Path] = {}
    for path in found:
        if path.is_dir() or (results and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(results))):
            continue
        if what := _special(path):
            passed.append(f"{path} ({what})")
        else:
            # "a/*/../b" leads to the same place on many ways, and a name with ".." to another folder.
            place = Path(os.path.realpath(path.parent), path.name) if ".." in path.parts else path
            places.setdefault(place, path)
    return dict(sorted(places.items()))


def _special(path: Path) -> str | None:
    """What else than a file something is; None for files, and for links that lead nowhere."""
    try:
        return special(path.stat().st_mode)
    except OSError:
        return None


def _names(whole: Sequence[str], videos: Sequence[bool]) -> list[str]:
    """Names without endings; with them, and at last a number, where two files would get the same on any file system.

    Args:
        whole: each file's, below the folder that all are in.
        videos: whether each is a video.
    """
    names = [os.path.splitext(name)[0] for name in whole]
    kept: set[int] = set()
    # A name that keeps its ending may be that of a file without: "a.jpg" beside "a.jpg.png".
    while clashing := _clashing(names, videos) - kept:
        kept |= clashing
        for index in clashing:
            names[index] = whole[index]
    # Even those may differ in what not every file system tells apart: "a.jpg" and "A.jpg".
    taken = {normalized(name) for name in names}
    seen: set[str] = set()
    for index, name in enumerate(names):
        numbers = itertools.count(2)
        while normalized(names[index]) in seen or (names[index] != name and normalized(names[index]) in taken):
            names[index] = f"{name}-{next(numbers)}"
        seen.add(normalized(names[index]))
    return names


def normalized(name: str) -> str:
    """A name in one of its spellings, for file systems that tell neither case nor ways of writing accents apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _clashing(names: Iterable[str], videos: Iterable[bool]) -> set[int]:
    """Which of the names another file has, too."""
    folded = [normalized(name) for name in names]
    counts = Counter(folded)
    ordered = sorted(counts)
    clashing = {index for index, name in enumerate(folded) if counts[name] > 1}
    for index, (name, video) in enumerate(zip(folded, videos, strict=True)):
        # Frames of a video "a" are a_000000 and so on.
        following = bisect.bisect_right(ordered, f"{name}_")
        if video and following < len(ordered) and ordered[following].startswith(f"{name}_"):
            clashing.add(index)
    return clashing


def printable(text: str) -> str:
    """A text with the name of a file, which may hold anything, as one line that every terminal shows."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
