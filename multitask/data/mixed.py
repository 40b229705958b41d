"""Several data sets joined into one, in which each frame keeps the labels of its own data set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from multitask.data.sample import Sample
from multitask.data.split import Split
from multitask.errors import UserError


class _Frame(NamedTuple):
    """Number of the part that a frame belongs to, and its index there."""

    part: int
    place: int


class Mixed(Split):
    """The frames of several splits, spread evenly: any stretch of them holds each part's share.

    A frame's name begins with the number of its part, so that names are unique.

    Attributes:
        members: the parts by number, each with all of its frames.

    Args:
        parts: splits of equal name, image size and class table, by number.
        where: configuration key and its value, for messages.
    Raises:
        UserError: naming both parts, if their classes differ.
    """

    def __init__(self, parts: Mapping[int, Split], where: str) -> None:
        first = next(iter(parts.values()))
        for part in parts.values():
            if first.classes.difference(part.classes):
                raise UserError(
                    f"{where}: needed one class table, found {first.classes.name} in {first.where} and "
                    f"{part.classes.name} in {part.where}: {first.classes.difference(part.classes)}"
                )
        self.where, self.split, self.image_size, self.classes = where, first.split, first.image_size, first.classes
        self.partial = any(part.partial for part in parts.values())
        self.members = dict(parts)
        frames = [_Frame(number, place) for number, part in parts.items() for place in range(len(part))]
        frames.sort(key=lambda frame: ((frame.place + 0.5) / len(parts[frame.part]), frame.part))
        self._frames = {f"{frame.part}-{parts[frame.part].names[frame.place]}": frame for frame in frames}
        self.names = list(self._frames)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        frame = self._frames[name]
        return replace(self.members[frame.part][frame.place], name=name)

    @property
    def parts(self) -> list[int]:
        """Part number per frame: that of its data set, or a higher one for frames that lack some of its labels."""
        within, above = {number: part.parts for number, part in self.members.items()}, max(self.members) + 1
        frames = (self._frames[name] for name in self.names)
        return [frame.part + above * within[frame.part][frame.place] for frame in frames]

    def kinds_of(self, name: str) -> frozenset[str]:
        part, own_name = self._locate(name)
        return part.kinds_of(own_name)

    def lacking(self, kind: str) -> list[str]:
        return [where for part in self._chosen() for where in part.lacking(kind)]

    def source_size(self, name: str) -> tuple[int, int]:
        part, own_name = self._locate(name)
        return part.source_size(own_name)

    def check_headers(self) -> None:
        for part in self._chosen():
            part.check_headers()

    def _locate(self, name: str) -> tuple[Split, str]:
        """Returns the part that a frame belongs to, and its name there."""
        frame = self._frames[name]
        part = self.members[frame.part]
        return part, part.names[frame.place]

    def _chosen(self) -> list[Split]:
        """Returns each part restricted to the selected frames; parts without any are left out."""
        places: dict[int, list[int]] = {}
        for frame in sorted(self._frames[name] for name in self.names):
            places.setdefault(frame.part, []).append(frame.place)
        return [self.members[number].only(chosen) for number, chosen in places.items()]


def spread(parts: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Returns a shuffled order (N,) in which every stretch holds each part's share.

    Args:
        parts: (N,) number of each frame's part. With a single part the order is a uniform random permutation.
        rng: draws the order within a part, and the position of each part's first frame.
    """
    numbers = np.asarray(parts)
    position = np.empty(len(numbers))
    for part in np.unique(numbers):
        frames = rng.permutation(np.flatnonzero(numbers == part))
        start = rng.random() if len(frames) < len(numbers) else 0.0
        position[frames] = (np.arange(len(frames)) + start) / len(frames)
    return np.argsort(position, kind="stable")
