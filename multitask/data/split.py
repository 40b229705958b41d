"""One split of a data set: what training and evaluation ask of it, whatever its layout on disk."""

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from multitask.data.classes import ClassTable
from multitask.data.sample import Sample
from multitask.errors import UserError, shown

_MOST_PIXELS, _LONGEST_SIDE = 2**24, 2**14
"""Of a frame for the network, whose features take some hundred bytes for each px: beyond, no training fits memory."""

LABEL_KINDS: tuple[str, ...] = ("class_ids", "instance_ids", "disparity")


class Split(ABC):
    """One split of a data set.

    Attributes:
        split: its name.
        image_size: (H, W) px at which frames are handed out: frames of another size are resized.
        names: of the frames, each once.
        where: the key of the configuration and what it is, for messages.
        classes: the table of the labels that it hands out.
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
            UserError: naming the file, if one is damaged, of another bit depth or size, or holds unknown ids.
        """

    def only(self, indices: Iterable[int]) -> "Split":
        """The same split with these frames alone."""
        part = copy.copy(self)
        part.names = [self.names[index] for index in indices]
        return part

    @abstractmethod
    def kinds_of(self, name: str) -> frozenset[str]:
        """The kinds of labels, and ``camera``, that a frame has."""

    def count(self, *kinds: str) -> int:
        """How many frames have all these kinds of labels (or ``camera``, or ``image``)."""
        wanted = set(kinds) - {"image"}
        return sum(wanted <= self.kinds_of(name) for name in self.names)

    def has(self, *kinds: str) -> bool:
        """Whether there are frames with all these kinds."""
        return self.count(*kinds) > 0

    @abstractmethod
    def lacking(self, kind: str) -> list[str]:
        """What of it, as `where` names it, lacks this kind."""

    @property
    def fingerprint(self) -> str:
        """Number of frames, a check sum of their names in order, and where these may differ one of what each has."""
        names = f"{len(self)} frames, names {_check_sum(self.names)}"
        if not self.partial:
            return names
        return f"{names}, labels {_check_sum(' '.join(sorted(self.kinds_of(name))) for name in self.names)}"

    @property
    def parts(self) -> list[int]:
        """Which part each frame is of, of those that every batch holds its share of: a data set, or frames that lack
        the same labels.
        """
        return [0] * len(self)

    @abstractmethod
    def source_size(self, name: str) -> tuple[int, int]:
        """(H, W) px of a frame's files.

        Raises:
            UserError: naming the file, if it is damaged.
        """

    @abstractmethod
    def check_headers(self) -> None:
        """Opens every PNG without decoding it and reads every camera file, so that faults are found before any work.

        Raises:
            UserError: naming the first file that is not what it should be.
        """


def check_size(key: str, size: Any) -> tuple[int, int]:
    """Checks an (H, W) in px from the configuration; ``key`` names it in the error."""
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
