"""One split of a data set below one root, in any layout."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from multitask.data.classes import ClassMapping, ClassTable
from multitask.data.counts import check_counts
from multitask.data.ids import contradiction
from multitask.data.layout import Camera, check_rows, read_camera, read_header, read_png
from multitask.data.sample import Sample
from multitask.data.split import LABEL_KINDS, Split, check_size
from multitask.data.transforms import resize
from multitask.errors import UserError

WHOLE = "whole"
"""Name of the split of all labelled frames, in layouts with `Folder.derived_splits`."""


class Layout(Protocol):
    """Layout of a data set below one root: a subclass of `Folder`, or a factory of instances.

    Attributes:
        derived_splits: see `Folder`.
    """

    @property
    def derived_splits(self) -> tuple[str, ...]: ...

    def splits(self, root: Path, kind: str = "image") -> list[str]:
        """Returns the names of the splits for which there are files of one kind."""

    def __call__(
        self,
        root: str | Path,
        split: str,
        image_size: Sequence[int],
        classes: ClassTable | ClassMapping,
        *,
        strict: bool = True,
        partial: bool = False,
    ) -> "Folder": ...


class Folder(Split):
    """One split of a data set below one root, read as downloaded. Subclasses implement a layout and its coding.

    A kind of label (class ids, instance ids, disparity) or the camera files may be missing for the whole split; a kind
    that exists must exist for every image, unless the split is partial.

    Attributes:
        root: root folder of the data set.
        kinds: the kinds of labels, and ``camera``, that the split has.
        table: class table of the label files, whose class ids `read` returns.
        images: naming scheme of the images, for errors.
        derived_splits: splits into which the layout divides one folder of labelled frames, together the split
            `WHOLE`; folds may divide it otherwise. Empty where the data set defines its splits itself.

    Args:
        root: root folder of the data set.
        split: name of the split.
        image_size: (H, W) px to which frames are resized.
        classes: class table of the label files, or a mapping from it to another table.
        strict: whether single files that are missing or in a wrong folder are refused.
        partial: whether an image may lack some of its other files.
    Raises:
        UserError: naming the folder or file, if the root, the split, its images or single label files are missing.
    """

    images: str
    derived_splits: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        root: str | Path,
        split: str,
        image_size: Sequence[int],
        classes: ClassTable | ClassMapping,
        *,
        strict: bool = True,
        partial: bool = False,
    ) -> None:
        self.root = Path(root)
        self.split = split
        self._mapping = classes if isinstance(classes, ClassMapping) else None
        self.table = classes.source if isinstance(classes, ClassMapping) else classes
        self.classes = classes.target if isinstance(classes, ClassMapping) else classes
        self.partial = partial
        self.image_size = check_size("data.image_size", image_size)
        self.where = f"data.root={root}"
        self._begin()
        if not self.root.is_dir():
            raise UserError(f"data.root={root}: no such folder; data/README.md says how to obtain each data set")
        folder = self.folder("image")
        found = self.splits_there()
        if split not in found and not (
            split == WHOLE and self.derived_splits and set(self.derived_splits) <= set(found)
        ):
            raise UserError(f"{folder}: no such folder; needed split {split!r}, found {found or 'no split'}")
        images = self.find("image")
        self.names = sorted(name for path, name in images.items() if path == self.path("image", name))
        if strict and (wrong := [path for path, name in images.items() if path != self.path("image", name)]):
            raise UserError(f"{wrong[0]}: does not lie in the folder where its name belongs")
        if not self.names:
            raise UserError(f"{folder}: needed images {self.images}, found none")
        absent = {kind: self._absent(kind, strict) for kind in (*LABEL_KINDS, "camera")}
        self.kinds = frozenset(kind for kind, names in absent.items() if len(names) < len(self.names))
        self._missing = {kind: names for kind, names in absent.items() if names and kind in self.kinds}
        if strict:
            counts = {kind: len(self.names) - len(self._missing.get(kind, ())) for kind in ("image", *self.kinds)}
            self._check_counts(counts)
        self._finish(strict)

    def _begin(self) -> None:
        """Prepares the state that a layout needs before it looks for files."""

    def _finish(self, strict: bool) -> None:
        """Completes opening, for a layout that has more to check once the files are found.

        Raises:
            UserError: naming the key or file at fault; for single files only if ``strict``.
        """

    def _check_counts(self, counts: Mapping[str, int]) -> None:
        """Compares the numbers of files by kind with the expected ones."""
        check_counts(self.root, self.derived_splits if self.split == WHOLE else (self.split,), counts)

    @abstractmethod
    def splits_there(self) -> list[str]:
        """Returns the names of the splits that the root has."""

    @abstractmethod
    def folder(self, kind: str) -> Path:
        """Returns the folder below which all files of one kind of this split lie."""

    @abstractmethod
    def path(self, kind: str, name: str) -> Path:
        """Returns the path of one kind of file of frame ``name``."""

    @abstractmethod
    def find(self, kind: str) -> dict[Path, str]:
        """Returns every existing file of one kind of this split, with the name of its frame."""

    def strays(self) -> Iterator[Path]:
        """Yields files that lie in a wrong folder or belong to no image."""
        names = set(self.names)
        for kind in ("image", *LABEL_KINDS, "camera"):
            for path, name in sorted(self.find(kind).items()):
                if name not in names or path != self.path(kind, name):
                    yield path

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        kinds = self.kinds_of(name)
        image = self.read("image", name)
        layers = {kind: self.read(kind, name) for kind in LABEL_KINDS if kind in kinds}
        for kind, layer in layers.items():
            if layer.shape != image.shape[:2]:
                raise size_error(self.path(kind, name), self.path("image", name), image.shape, layer.shape)
        if found := self.contradiction(name, layers):
            raise found[1]
        if self._mapping:
            layers = {kind: self._mapping.apply(kind, layer) for kind, layer in layers.items()}
        camera = self.read_camera(name) if "camera" in kinds else None
        class_ids, instance_ids, disparity = (layers.get(kind) for kind in LABEL_KINDS)
        return resize(Sample(name, image, class_ids, instance_ids, disparity, camera), self.image_size)

    def contradiction(self, name: str, layers: Mapping[str, np.ndarray]) -> tuple[str, UserError] | None:
        """Finds a contradiction between the class and instance ids of a frame.

        Args:
            name: name of the frame.
            layers: its layers by kind, each (H, W).
        Returns:
            The kind of file that is wrong, and the error; None if they agree or one of them is missing.
        """
        if not {"class_ids", "instance_ids"} <= set(layers):
            return None
        if not (found := contradiction(layers["class_ids"], layers["instance_ids"], self.table)):
            return None
        kind, words = found
        other = self.path("instance_ids" if kind == "class_ids" else "class_ids", name)
        return kind, UserError(f"{self.path(kind, name)}: needed the classes of {other}, found {words}")

    def kinds_of(self, name: str) -> frozenset[str]:
        return self.files_of(name)

    def files_of(self, name: str) -> frozenset[str]:
        """Returns the kinds of labels, and ``camera``, for which a frame has a file."""
        return self.kinds.difference(kind for kind in self._missing if self._is_missing(kind, name))

    @property
    def parts(self) -> list[int]:
        """A number per frame that encodes the kinds of labels it lacks though others have them; 0 if it lacks none."""
        return [
            sum(2**place for place, kind in enumerate(LABEL_KINDS) if self._is_missing(kind, name))
            for name in self.names
        ]

    def lacking(self, kind: str) -> list[str]:
        return [] if self.has(kind) else [self.where]

    def read(self, kind: str, name: str) -> np.ndarray:
        """Reads one layer at the size of its file, coded as in a `Sample`.

        Raises:
            UserError: naming the file, if it is damaged, of a wrong bit depth, or holds unknown ids.
        """
        path = self.path(kind, name)
        array = read_png(path, self.coding(kind, name))
        return array if kind == "image" else self._decode(kind, path, array)

    @abstractmethod
    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        """Decodes the values of a label file (H, W) to the layer that `read` returns."""

    def coding(self, kind: str, name: str) -> str:
        """Returns the kind of file whose PNG coding a picture or label file must have."""
        return kind

    def read_camera(self, name: str) -> Camera:
        """Reads the camera of a frame, in px of its files.

        Raises:
            UserError: naming the file, if it is damaged.
        """
        return read_camera(self.path("camera", name))

    def header(self, kind: str, name: str) -> tuple[int, int]:
        """Returns the size (H, W) px of a picture or label file, and checks its coding.

        Raises:
            UserError: naming the file, if its header or coding is wrong.
        """
        return read_header(self.path(kind, name), self.coding(kind, name))

    def check_file(self, kind: str, name: str) -> None:
        """Checks that a PNG holds exactly its rows, which reading it does not.

        Raises:
            UserError: naming the file.
        """
        check_rows(self.path(kind, name))

    def source_size(self, name: str) -> tuple[int, int]:
        return self.header("image", name)

    def check_headers(self) -> None:
        # Threads, since opening files takes most of the time, above all on network disks.
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(self._check_frame, self.names):
                pass

    def _check_frame(self, name: str) -> None:
        image = self.path("image", name)
        size = self.header("image", name)
        kinds = self.kinds_of(name) & self.files_of(name)
        for kind in LABEL_KINDS:
            if kind in kinds and (found := self.header(kind, name)) != size:
                raise size_error(self.path(kind, name), image, size, found)
        if "camera" in kinds:
            self.read_camera(name)

    def _absent(self, kind: str, strict: bool) -> frozenset[str]:
        """Returns the frames without a kind of file: all if none has one, otherwise only those of a partial split."""
        there = self.find(kind)
        if not there:
            return frozenset(self.names)
        absent = [name for name in self.names if self.path(kind, name) not in there]
        if absent and strict and not self.partial:
            path, image = self.path(kind, absent[0]), self.path("image", absent[0])
            raise UserError(f"{path}: no such file, but {image} needs it")
        return frozenset(absent if self.partial else ())

    def _is_missing(self, kind: str, name: str) -> bool:
        """Whether a frame lacks a kind of file that others have."""
        return name in self._missing.get(kind, ())


def size_error(path: Path, other: Path, needed: Sequence[int], found: Sequence[int]) -> UserError:
    """Error for a file whose size (H, W) px differs from that of another file of its frame."""
    return UserError(f"{path}: needed {needed[0]} x {needed[1]} px, the size of {other}, found {found[0]} x {found[1]}")
