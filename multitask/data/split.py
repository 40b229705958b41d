"""Interface of one split of a data set, as training and evaluation use it, whatever its layout on disk."""

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from multitask.data.classes import ClassTable
from multitask.data.sample import Sample
from multitask.errors import UserError, shown

_MOST_PIXELS, _LONGEST_SIDE = 2**24, 2**14
"""Size limits of a network input in px: features take some hundred bytes per px, so larger ones fit no memory."""

LABEL_KINDS: tuple[str, ...] = ("class_ids", "instance_ids", "disparity")


class Split(ABC):
    """One split of a data set.

    Attributes:
        split: name of the split.
        image_size: (H, W) px to which frames are resized.
        names: names of the frames, without duplicates.
        where: configuration key and its value, for messages.
        classes: class table of the samples' labels.
        partial: whether a frame may lack labels that others have.
    """

    split: str
    image_size: tuple[int, int]
    names: list[str]
    where: str
    classes: ClassTable
    partial: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Reads one frame.

        Raises:
            UserError: naming the file, if one is damaged, of a wrong bit depth or size, or holds unknown ids.
        """

    def only(self, indices: Iterable[int]) -> "Split":
        """Returns the split restricted to the frames of these indices."""
        part = copy.copy(self)
        part.names = [self.names[index] for index in indices]
        return part

    @abstractmethod
    def kinds_of(self, name: str) -> frozenset[str]:
        """Returns the kinds of labels, and ``camera``, that a frame has."""

    def count(self, *kinds: str) -> int:
        """Counts the frames that have all these kinds of labels (or ``camera``, or ``image``)."""
        wanted = set(kinds) - {"image"}
        return sum(wanted <= self.kinds_of(name) for name in self.names)

    def has(self, *kinds: str) -> bool:
        """Whether some frame has all these kinds."""
        return self.count(*kinds) > 0

    @abstractmethod
    def lacking(self, kind: str) -> list[str]:
        """Returns the `where` of each data set in this split that lacks a kind."""

    @property
    def fingerprint(self) -> str:
        """Number of frames and checksum of their ordered names; for partial splits also one of their label kinds."""
        names = f"{len(self)} frames, names {_check_sum(self.names)}"
        if not self.partial:
            return names
        return f"{names}, labels {_check_sum(' '.join(sorted(self.kinds_of(name))) for name in self.names)}"

    @property
    def parts(self) -> list[int]:
        """Number of the part that each frame belongs to; every batch holds each part's share.

        A part is a data set, or the frames that lack the same labels.
        """
        return [0] * len(self)

    @abstractmethod
    def source_size(self, name: str) -> tuple[int, int]:
        """Returns the size (H, W) px of a frame's files.

        Raises:
            UserError: naming the file, if it is damaged.
        """

    @abstractmethod
    def check_headers(self) -> None:
        """Reads every PNG header and every camera file, so that faults are found before any work is done.

        Raises:
            UserError: naming the first faulty file.
        """


def check_size(key: str, size: Any) -> tuple[int, int]:
    """Checks a size (H, W) in px from the configuration; ``key`` names it in the error."""
    given = list(size) if isinstance(size, tuple) else size
    numbers = isinstance(size, list | tuple) and len(size) == 2 and all(type(x) is int and x > 0 for x in size)
    if not numbers:
        raise UserError(f"{key}: needed two positive whole numbers [H, W], found {shown(given)}")
    if size[0] * size[1] > _MOST_PIXELS or max(size) > _LONGEST_SIDE:
        raise UserError(
            f"{key}: needed at most {_MOST_PIXELS} px, and {_LONGEST_SIDE} of a side, found {shown(list(size))}"
        )
    return size[0], size[1]


def _check_sum(texts: Iterable[str]) -> str:
    return f"{zlib.crc32(chr(10).join(texts).encode()):08x}"
