"""One split of a data set: what training and evaluation ask of it, whatever its layout on disk."""

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from multitask.data.counts import check_counts
from multitask.data.ids import contradiction
from multitask.data.labels import CLASS_NAMES
from multitask.data.layout import Camera, read_camera, read_header, read_png
from multitask.data.sample import Sample
from multitask.data.transforms import resize
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
        classes: names of the classes that its labels are mapped to, by train id.
    """

    split: str
    image_size: tuple[int, int]
    names: list[str]
    where: str
    classes: tuple[str, ...] = CLASS_NAMES

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
    def has(self, *kinds: str) -> bool:
        """Whether the split has frames with all these kinds of labels (or ``camera``, or ``image``)."""

    @abstractmethod
    def lacking(self, kind: str) -> list[str]:
        """What of it, as `where` names it, lacks this kind."""

    @property
    def fingerprint(self) -> str:
        """Number of frames and a check sum of their names in order."""
        return f"{len(self)} frames, names {zlib.crc32(chr(10).join(self.names).encode()):08x}"

    @property
    def parts(self) -> list[int]:
        """Which data set each frame is of, where there are several."""
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


class Folder(Split):
    """One split of a data set below one root, read as downloaded. Subclasses know a layout and its coding.

    A kind of label (class ids, instance ids, disparity) or the camera files may be missing for the whole split; a kind
    that is there must be there for every image.

    Attributes:
        root: the folder.
        kinds: of labels, and ``camera``, that are there.
        images: how images are named, for errors.

    Args:
        root: the folder.
        split: name of the split.
        image_size: (H, W) px at which frames are handed out.
        strict: whether single files that are missing or in a wrong place are refused.
    Raises:
        UserError: naming the folder or file, if the root, the split, its images or single label files are missing.
    """

    images: ClassVar[str]

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int], *, strict: bool = True) -> None:
        self.root = Path(root)
        self.split = split
        self.image_size = check_size("data.image_size", image_size)
        self.where = f"data.root={root}"
        if not self.root.is_dir():
            raise UserError(f"data.root={root}: no such folder; data/README.md says how to obtain each data set")
        folder = self.folder("image")
        if split not in (found := self.splits(self.root)):
            raise UserError(f"{folder}: no such folder; needed split {split!r}, found {found or 'no split'}")
        images = self.find("image")
        self.names = sorted(name for path, name in images.items() if path == self.path("image", name))
        if strict and (wrong := [path for path, name in images.items() if path != self.path("image", name)]):
            raise UserError(f"{wrong[0]}: does not lie in the folder where its name belongs")
        if not self.names:
            raise UserError(f"{folder}: needed images {self.images}, found none")
        self.kinds = frozenset(kind for kind in (*LABEL_KINDS, "camera") if self._is_there(kind, strict))
        if strict:
            check_counts(self.root, split, dict.fromkeys(("image", *self.kinds), len(self.names)))

    @classmethod
    @abstractmethod
    def splits(cls, root: Path, kind: str = "image") -> list[str]:
        """Names of the splits for which there is a folder of one kind of file."""

    @abstractmethod
    def folder(self, kind: str) -> Path:
        """The folder below which all files of one kind and this split lie."""

    @abstractmethod
    def path(self, kind: str, name: str) -> Path:
        """The file of one kind of frame ``name``."""

    @abstractmethod
    def find(self, kind: str) -> dict[Path, str]:
        """Every file of one kind and this split that is there, and the name of the frame that it says it is of."""

    def strays(self) -> Iterator[Path]:
        """Files that belong to no image: that lie where they should not, or have none."""
        names = set(self.names)
        for kind in ("image", *LABEL_KINDS, "camera"):
            for path, name in sorted(self.find(kind).items()):
                if name not in names or path != self.path(kind, name):
                    yield path

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        layers = {kind: self.read(kind, name) for kind in ("image", *LABEL_KINDS) if self.has(kind)}
        image = layers.pop("image")
        for kind, layer in layers.items():
            if layer.shape != image.shape[:2]:
                raise size_error(self.path(kind, name), self.path("image", name), image.shape, layer.shape)
        if found := self.contradiction(name, layers):
            raise found[1]
        camera = self.read_camera(name) if self.has("camera") else None
        class_ids, instance_ids, disparity = (layers.get(kind) for kind in LABEL_KINDS)
        return resize(Sample(name, image, class_ids, instance_ids, disparity, camera), self.image_size)

    def contradiction(self, name: str, layers: Mapping[str, np.ndarray]) -> tuple[str, UserError] | None:
        """That the labels of a frame say of one pixel that it is of two classes: of which kind of file it is said, and
        the error; None where they do not, or where one of them is not there.
        """
        if not {"class_ids", "instance_ids"} <= set(layers):
            return None
        if not (found := contradiction(layers["class_ids"], layers["instance_ids"])):
            return None
        kind, words = found
        other = self.path("instance_ids" if kind == "class_ids" else "class_ids", name)
        return kind, UserError(f"{self.path(kind, name)}: needed the classes of {other}, found {words}")

    def has(self, *kinds: str) -> bool:
        return all(kind == "image" or kind in self.kinds for kind in kinds)

    def lacking(self, kind: str) -> list[str]:
        return [] if self.has(kind) else [self.where]

    def read(self, kind: str, name: str) -> np.ndarray:
        """One layer at the size of its file, coded as a `Sample` has it.

        Raises:
            UserError: naming the file, if it is damaged, of another bit depth, or holds unknown ids.
        """
        path = self.path(kind, name)
        array = read_png(path, kind)
        return array if kind == "image" else self._decode(kind, path, array)

    @abstractmethod
    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        """A label file's values (H, W) -> the layer, as `read` returns it."""

    def read_camera(self, name: str) -> Camera:
        """The camera of a frame, in px of its files.

        Raises:
            UserError: naming the file, if it is damaged.
        """
        return read_camera(self.path("camera", name))

    def source_size(self, name: str) -> tuple[int, int]:
        return read_header(self.path("image", name), "image")

    def check_headers(self) -> None:
        # Threads, since what takes the time is opening files, on network disks above all.
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(self._check_frame, self.names):
                pass

    def _check_frame(self, name: str) -> None:
        image = self.path("image", name)
        size = read_header(image, "image")
        for kind in LABEL_KINDS:
            if self.has(kind) and (found := read_header(self.path(kind, name), kind)) != size:
                raise size_error(self.path(kind, name), image, size, found)
        if self.has("camera"):
            self.read_camera(name)

    def _is_there(self, kind: str, strict: bool) -> bool:
        """Whether a kind of file is there; if so, it must be there for every image."""
        there = self.find(kind)
        if there and strict:
            for name in self.names:
                path = self.path(kind, name)
                if path not in there:
                    raise UserError(f"{path}: no such file, but {self.path('image', name)} needs it")
        return bool(there)


def check_size(key: str, size: Any) -> tuple[int, int]:
    """Checks an (H, W) in px from the configuration; ``key`` names it in the error."""
    numbers = isinstance(size, list | tuple) and len(size) == 2 and all(type(x) is int and x > 0 for x in size)
    if not numbers:
        raise UserError(f"{key}: needed two positive whole numbers [H, W], found {shown(size)}")
    if size[0] * size[1] > _MOST_PIXELS or max(size) > _LONGEST_SIDE:
        raise UserError(
            f"{key}: needed at most {_MOST_PIXELS} px, and {_LONGEST_SIDE} of a side, found {shown(list(size))}"
        )
    return size[0], size[1]


def size_error(path: Path, other: Path, needed: Sequence[int], found: Sequence[int]) -> UserError:
    """That a file has not the size (H, W) px of another one of its frame."""
    return UserError(f"{path}: needed {needed[0]} x {needed[1]} px, the size of {other}, found {found[0]} x {found[1]}")
