"""Reading of a data set in user-defined folders, as a configuration describes it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from multitask.data.classes import IGNORE, INSTANCE_BASE, class_of
from multitask.data.coco_panoptic import Segments
from multitask.data.counts import check_counts
from multitask.data.description import CODINGS, NUMBER, DepthFiles, Description, DisparityFiles
from multitask.data.folder import Folder
from multitask.data.ids import check_thousands, number_instances, read_class_ids, read_instance_ids, read_train_ids
from multitask.data.layout import INDICES, Camera, read_camera
from multitask.data.listed import are_shares, check_split, check_splits, frames_of, split_names
from multitask.data.patterns import Pattern
from multitask.data.pictures import is_plain_png, is_png, is_shallow_png, read_rgb, read_size
from multitask.data.split import LABEL_KINDS
from multitask.errors import UserError

log = logging.getLogger(__name__)


class Described(Folder):
    """One split of a data set that a `Description` describes.

    Args:
        description: description of the data set.
        args, kwargs: as for `Folder`.
    Raises:
        UserError: naming the key or file.
    """

    def __init__(self, description: Description, *args: Any, **kwargs: Any) -> None:
        self.description = description
        self.images = description.image.text
        self._found: dict[str, dict[str, Path]] = {}
        self._own_names: dict[str, str] = {}
        self._walked: dict[str, dict[Path, str]] = {}
        self._segments: dict[Path, Segments] = {}
        super().__init__(*args, **kwargs)

    def _begin(self) -> None:
        check_splits(self.description.splits, self.description.image)
        check_split(self.description.splits, self.split)

    def _finish(self, strict: bool) -> None:
        self._walked.clear()  # no longer needed, and this object is sent to worker processes
        for kind in self.kinds.intersection(LABEL_KINDS):
            self._table(kind)
        instances = self.description.instance_ids
        if "instance_ids" in self.kinds and instances and CODINGS.get(instances.coding) == INSTANCE_BASE:
            check_thousands(self.table, "data.instance_ids.coding")

    def say_what_fits_nothing(self) -> None:
        """Logs a line for each pattern that matches no file of the split, as a mistyped pattern does."""
        for kind in (*LABEL_KINDS, "camera"):
            if kind not in self.kinds and (pattern := self.description.pattern(kind)):
                log.warning("%s=%s: no file for the pictures of split %r", pattern.key, pattern.text, self.split)

    def _check_counts(self, counts: Mapping[str, int]) -> None:
        if not are_shares(self.description.splits):  # the frames of a share may change at any time
            kinds = [kind for kind in ("image", *LABEL_KINDS, "camera") if self.description.pattern(kind)]
            check_counts(self.root, (self.split,), counts, kinds)

    def splits_there(self) -> list[str]:
        return DescribedLayout(self.description).splits(self.root)

    def folder(self, kind: str) -> Path:
        pattern = self.description.pattern(kind)
        return pattern.folder(self.root, self.split) if pattern else self.root

    def path(self, kind: str, name: str) -> Path:
        if name in (found := self._index(kind)):
            return found[name]
        pattern, own = self.description.pattern(kind), self._own_names.get(name, name)
        return pattern.path(self.root, self.split, own) if pattern else self.root / f"{kind} of {own}"

    def find(self, kind: str) -> dict[Path, str]:
        return {path: name for name, path in self._index(kind).items()}

    def kinds_of(self, name: str) -> frozenset[str]:
        kinds, description = super().kinds_of(name), self.description
        if description.instance_ids and description.instance_ids.coding == NUMBER and "class_ids" not in kinds:
            kinds -= {"instance_ids"}  # their classes are unknown
        if "disparity" in kinds and _product(description):
            kinds |= {"camera"}
        return kinds

    def coding(self, kind: str, name: str) -> str:
        files = self.description.class_ids if kind == "class_ids" else self.description.instance_ids
        if kind not in ("class_ids", "instance_ids") or not files:
            return kind
        if files.table:
            return "image"
        if files.palette:
            return INDICES
        is_number = kind == "instance_ids" and getattr(files, "coding", None) == NUMBER
        return "class_ids" if is_number and is_shallow_png(self.path(kind, name)) else kind

    def header(self, kind: str, name: str) -> tuple[int, int]:
        path = self.path(kind, name)
        if kind == "disparity" and isinstance(self.description.disparity, DepthFiles):
            self._product_of(name)
        if table := self._table(kind):
            table.check(path)
        return read_size(path) if kind == "image" and not self._is_plain(path) else super().header(kind, name)

    def check_file(self, kind: str, name: str) -> None:
        if is_png(self.path(kind, name)):
            super().check_file(kind, name)

    def read(self, kind: str, name: str) -> np.ndarray:
        path, description = self.path(kind, name), self.description
        if table := self._table(kind):
            return table.read(path, kind)
        if kind == "image" and not self._is_plain(path):
            return read_rgb(path)
        layer = super().read(kind, name)
        if kind == "instance_ids" and description.instance_ids and description.class_ids:
            if description.instance_ids.coding == NUMBER:
                return number_instances(path, layer, self.read("class_ids", name), self.table)
            if description.class_ids.train_ids:  # train ids do not tell ignored classes apart
                return np.where(self.table.train_ids[class_of(layer)] == IGNORE, 0, layer)
        if kind == "disparity" and isinstance(description.disparity, DepthFiles):
            return np.float32(self._product_of(name)) / layer
        return layer

    def read_camera(self, name: str) -> Camera:
        product = _product(self.description)
        if "camera" in self.files_of(name) or not product:
            camera = super().read_camera(name)
            return replace(camera, baseline=product / camera.fx) if product else camera
        height, width = self.source_size(name)
        # Only the product of baseline and focal length is known, and no more is needed.
        return Camera(1.0, product, product, (width - 1) / 2, (height - 1) / 2)

    def _decode(self, kind: str, path: Path, coded: np.ndarray) -> np.ndarray:
        description = self.description
        if kind == "class_ids":
            assert description.class_ids
            read = read_train_ids if description.class_ids.train_ids else read_class_ids
            return read(path, coded, self.table)
        if kind == "instance_ids":
            assert description.instance_ids
            if description.instance_ids.coding == NUMBER:
                return coded.astype(np.int32)
            base = CODINGS[description.instance_ids.coding]
            return read_instance_ids(path, coded, self.table, base, description.instance_ids.first)
        assert description.disparity
        return _measured(coded, description.disparity)

    def _index(self, kind: str) -> dict[str, Path]:
        """Returns files by frame name: those of the split's frames, and those that belong to no frame of any split."""
        if kind not in self._found:
            pattern = self.description.pattern(kind)
            self._found[kind] = {} if pattern is None else self._pictures() if kind == "image" else self._files(pattern)
        return self._found[kind]

    def _pictures(self) -> dict[str, Path]:
        pattern, split = self.description.image, self.split
        others = [p for kind in (*LABEL_KINDS, "camera") if (p := self.description.pattern(kind))]
        names = {
            path: name
            for path, name in self._candidates(split).items()
            if not any(other.name_of(self.root, split, path) for other in others)  # a label file beside the pictures
        }
        found = _by_name(names, pattern)
        self._own_names = {_flat(name): name for name in names.values()}
        pictures = {name: path for path, name in names.items()}
        listed = frames_of(self.description.splits, split, self.root, pictures)
        kept = found if listed is None else map(_flat, listed)
        return {name: found[name] for name in kept}

    def _files(self, pattern: Pattern) -> dict[str, Path]:
        splits = [self.split]
        if self.description.image.has_split and not pattern.has_split:
            splits = self.splits_there()
        pictures = {_flat(name) for split in splits for name in self._candidates(split).values()}
        others = pictures.difference(self._index("image"))
        found = _by_name(pattern.find(self.root, self.split), pattern)
        return {name: path for name, path in found.items() if name not in others}

    def _candidates(self, split: str) -> dict[Path, str]:
        """Returns all files of a split whose paths match the picture pattern; folders are walked only once."""
        if split not in self._walked:
            self._walked[split] = self.description.image.find(self.root, split)
        return self._walked[split]

    def _is_plain(self, picture: Path) -> bool:
        """Whether a picture must be an 8-bit RGB PNG, and is read with all checks of one."""
        return self.description.plain or is_plain_png(picture)

    def _table(self, kind: str) -> Segments | None:
        """Returns the table of segments for a kind of file; None if the kind has another coding."""
        files = {"class_ids": self.description.class_ids, "instance_ids": self.description.instance_ids}.get(kind)
        if not files or not files.table:
            return None
        path = files.table.path(self.root, self.split)
        if path not in self._segments:
            self._segments[path] = Segments(path, self.table)
        return self._segments[path]

    def _product_of(self, name: str) -> float:
        """Returns focal length times baseline of a frame with depth, px m."""
        if product := _product(self.description):
            return product
        path = self.path("camera", name)
        if "camera" not in self.files_of(name):
            depth = self.path("disparity", name)
            raise UserError(f"{depth}: needed {path}, since depth is learned as disparity; found none")
        camera = read_camera(path)
        return camera.baseline * camera.fx


class DescribedLayout:
    """Layout of a data set with a `Description`; calling it opens a split."""

    derived_splits: tuple[str, ...] = ()

    def __init__(self, description: Description) -> None:
        self.description = description

    def __call__(self, *args: Any, **kwargs: Any) -> Described:
        """Opens a split; the arguments are those of `Folder`."""
        return Described(self.description, *args, **kwargs)

    def splits(self, root: Path, kind: str = "image") -> list[str]:
        """Returns the names of the splits for which there are files of one kind."""
        pattern = self.description.pattern(kind)
        if pattern is None:
            return []
        return split_names(self.description.splits, self.description.image, pattern, root)


def _flat(name: str) -> str:
    """Returns a frame's name without folders, for naming the files that are written for it."""
    return name.replace("/", "_")


def _by_name(names: Mapping[Path, str], pattern: Pattern) -> dict[str, Path]:
    """Returns the file of each frame, by its name; refuses several files for one name."""
    found: dict[str, Path] = {}
    for path, name in sorted(names.items()):
        if (own := _flat(name)) in found:
            raise UserError(f"{pattern.key}: needed one file for each name, found {found[own]} and {path} for {own!r}")
        found[own] = path
    return found


def _product(description: Description) -> float | None:
    """Returns focal length times baseline of all frames, px m; None without depth, or if each frame's camera has it."""
    return description.disparity.focal_times_baseline if isinstance(description.disparity, DepthFiles) else None


def _measured(coded: np.ndarray, files: DisparityFiles | DepthFiles) -> np.ndarray:
    """Decodes a file's values to disparity in px, or depth in m, (H, W) float32, NaN where nothing was measured."""
    values = coded.astype(np.float32)
    if isinstance(files, DepthFiles):
        values = values * np.float32(files.unit_m)
        values[values <= 0] = np.nan
    else:
        values = (values - np.float32(files.offset)) / np.float32(files.scale)
        values[values < 0] = np.nan
    values[coded == files.invalid] = np.nan
    return values
