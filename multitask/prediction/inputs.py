"""Selection of the files to predict, and names of their results."""

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
"""Number of skipped files that are listed by name; the others are counted."""


class Source(NamedTuple):
    """A picture or a video.

    Attributes:
        path: the file.
        name: unique name of its results, with ``/`` for folders and without extension.
        video: whether it is a video.
    """

    path: Path
    name: str
    video: bool


class Inputs(NamedTuple):
    """The files that ``input=`` selects.

    Attributes:
        sources: the pictures and videos, sorted.
        failures: one line for each folder that could not be searched.
        passed: names of skipped files, which are neither pictures nor videos, and of special files such as pipes.
    """

    sources: list[Source]
    failures: list[str]
    passed: list[str]


def find_sources(given: str, results: Path | None = None) -> Inputs:
    """Finds the files that ``input=`` selects.

    Args:
        given: a file; a folder, searched recursively for pictures and videos that are not hidden; or a pattern such as
            ``photos/*.jpg``, in which ``**`` matches any folders.
        results: folder of the results, which is not searched.
    Raises:
        UserError: if nothing has this name, if there is nothing to predict, or if the only input is a video and PyAV
            is missing.
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
    """Returns one line about skipped files."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    files = "1 file that is" if len(names) == 1 else f"{len(names)} files that are"
    return f"passed over {files} no picture or video: {', '.join(names[:_MOST_NAMES])}{more}"


def _media_below(folder: Path, results: Path | None, failures: list[str], passed: list[str]) -> Iterator[Path]:
    """Yields the pictures and videos below a folder; adds failures and skipped files to the lists."""

    def note(error: OSError) -> None:
        failures.append(f"{error.filename}: could not be searched ({reason(error)})")

    seen = {os.path.realpath(results)} if results else set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=note):
        # Following a link to a folder above would never end.
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
    """Returns the files that match a pattern, as found, by their place; a file found by two ways is returned once.

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
            # "a/*/../b" may lead to one place by many ways, and a name with ".." would lead out of the results' folder.
            place = Path(os.path.realpath(path.parent), path.name) if ".." in path.parts else path
            places.setdefault(place, path)
    return dict(sorted(places.items()))


def _special(path: Path) -> str | None:
    """Describes a path that is not a regular file, such as "a pipe"; returns None for files and broken links."""
    try:
        return special(path.stat().st_mode)
    except OSError:
        return None


def _names(paths: Sequence[str], videos: Sequence[bool]) -> list[str]:
    """Returns names without extensions; where two files would clash on some file system, with extension or a number.

    Args:
        paths: path of each file, relative to the common folder.
        videos: whether each is a video.
    """
    names = [os.path.splitext(name)[0] for name in paths]
    kept: set[int] = set()
    # A name that keeps its extension may clash with another one without: "a.jpg" beside "a.jpg.png".
    while clashing := _clashing(names, videos) - kept:
        kept |= clashing
        for index in clashing:
            names[index] = paths[index]
    # Some file systems do not distinguish even full names: "a.jpg" and "A.jpg".
    taken = {normalized(name) for name in names}
    seen: set[str] = set()
    for index, name in enumerate(names):
        numbers = itertools.count(2)
        while normalized(names[index]) in seen or (names[index] != name and normalized(names[index]) in taken):
            names[index] = f"{name}-{next(numbers)}"
        seen.add(normalized(names[index]))
    return names


def normalized(name: str) -> str:
    """Returns a name in normal form, for file systems that ignore case or the composition of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _clashing(names: Iterable[str], videos: Iterable[bool]) -> set[int]:
    """Returns the indices of names that clash with another file's."""
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
    """Makes a text with arbitrary file names safe to print: one line without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
