"""A data set in folders of one's own, as a configuration describes it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multitask.data.classes import IGNORE, INSTANCE_BASE, ClassMapping, ClassTable
from multitask.data.description import CODINGS, NUMBER, DepthFiles, Description
from multitask.data.folder import Folder
from multitask.data.ids import read_class_ids, read_instance_ids, read_train_ids
from multitask.data.layout import Camera, read_camera
from multitask.data.listed import frames_of, split_names
from multitask.data.panoptic import Segments
from multitask.data.pictures import is_plain_png, read_indices, read_rgb, read_size
from multitask.data.split import LABEL_KINDS
from multitask.errors import UserError


class Described(Folder):
    """One split of a data set that a `Description` describes.

    Args:
        description: of the data set.
        root, split, image_size, classes, strict, partial: as of `Folder`.
    Raises:
        UserError: naming the key or file.
    """

    def __init__(
        self,
        description: Description,
        root: str | Path,
        split: str,
        image_size: Sequence[int],
        classes: ClassTable | ClassMapping,
        *,
        strict: bool = True,
        partial: bool = False,
    ) -> None:
        self.description = description
        self.images = description.image.text
        self._found: dict[str, dict[str, Path]] = {}
        self._segments: dict[Path, Segments] = {}
        super().__init__(root, split, image_size, classes, strict=strict, partial=partial)
        for kind in self.kinds.intersection(LABEL_KINDS):
            files = getattr(description, kind)
            if table := getattr(files, "table", None):
                self._table(table.path(self.root, split))
        if isinstance(description.disparity, DepthFiles) and description.disparity.focal_times_baseline:
            self.kinds |= {"camera"} if "disparity" in self.kinds else set()

    def splits_there(self) -> list[str]:
        return DescribedLayout(self.description).splits(self.root)

    def folder(self, kind: str) -> Path:
        pattern = self.description.pattern(kind)
        return pattern.folder(self.root, self.split) if pattern else self.root

    def path(self, kind: str, name: str) -> Path:
        if name in (found := self._index(kind)):
            return found[name]
        pattern = self.description.pattern(kind)
        return pattern.path(self.root, self.split, name) if pattern else self.root / f"{kind} of {name}"

    def find(self, kind: str) -> dict[Path, str]:
        return {path: name for name, path in self._index(kind).items()}

    def header(self, kind: str, name: str) -> tuple[int, int]:
        path = self.path(kind, name)
        return super().header(kind, name) if self._is_checked_png(kind, path) else read_size(path)

    def check_file(self, kind: str, name: str) -> None:
        if self._is_checked_png(kind, self.path(kind, name)):
            super().check_file(kind, name)

    def read(self, kind: str, name: str) -> np.ndarray:
        path, description = self.path(kind, name), self.description
        if not self._is_checked_png(kind, path):
            if kind == "image":
                return read_rgb(path)
            coded = description.class_ids if kind == "class_ids" else description.instance_ids
            if coded and coded.table:
                return self._table(coded.table.path(self.root, self.split)).read(path, kind)
            return self._decode(kind, path, read_indices(path))
        layer = super().read(kind, name)
        if kind == "instance_ids" and description.instance_ids and description.class_ids:
            if description.instance_ids.coding == NUMBER:
                return _numbered(path, layer, self.read("class_ids", name), self.table)
            if description.class_ids.train_ids:  # which say nothing of ignored classes
                class_ids = np.where(layer < INSTANCE_BASE, layer, layer // INSTANCE_BASE)
                return np.where(self.table.train_ids[class_ids] == IGNORE, 0, layer)
        if kind == "disparity" and isinstance(files := description.disparity, DepthFiles):
            camera = None if files.focal_times_baseline else self._camera_of_depth(path, name)
            product = files.focal_times_baseline or (camera.baseline * camera.fx if camera else 0.0)
            with np.errstate(divide="ignore"):
                return (np.float32(product) / layer).astype(np.float32)
        return layer

    def read_camera(self, name: str) -> Camera:
        if self.description.camera:
            return super().read_camera(name)
        assert isinstance(self.description.disparity, DepthFiles)
        height, width = self.source_size(name)
        # Of a baseline and a focal length no more is known, and needed, than their product.
        product = self.description.disparity.focal_times_baseline or 0.0
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
        files = description.disparity
        assert files
        values = coded.astype(np.float32)
        values = (
            values * np.float32(files.unit_m)
            if isinstance(files, DepthFiles)
            else ((values - np.float32(files.offset)) / np.float32(files.scale))
        )
        wrong = ~(values > 0) if isinstance(files, DepthFiles) else values < 0
        values[(coded == files.invalid) | wrong] = np.nan
        return values

    def _index(self, kind: str) -> dict[str, Path]:
        """The file of each frame of the split, by its name."""
        if kind not in self._found:
            self._found[kind] = self._search(kind)
        return self._found[kind]

    def _search(self, kind: str) -> dict[str, Path]:
        pattern = self.description.pattern(kind)
        if pattern is None:
            return {}
        found: dict[str, Path] = {}
        raw: dict[str, str] = {}
        others = [p for k in (*LABEL_KINDS, "camera") if k != kind and (p := self.description.pattern(k))]
        for path, name in sorted(pattern.find(self.root, self.split).items()):
            if kind == "image" and any(other.name_of(self.root, self.split, path) for other in others):
                continue  # a label file beside the pictures
            if (own := _flat(name)) in found:
                raise UserError(
                    f"{pattern.key}: needed one file for each name, found {found[own]} and {path} for {own!r}"
                )
            found[own], raw[name] = path, own
        there = raw if kind == "image" else self._names()
        listed = frames_of(self.description.splits, self.split, self.root, there)
        if listed is None:
            return found
        kept = {_flat(name) for name in listed}
        return {name: path for name, path in found.items() if name in kept}

    def _names(self) -> list[str]:
        """Names of all frames that have a picture, of all splits that share a folder."""
        return list(self.description.image.find(self.root, self.split).values())

    def _table(self, path: Path) -> Segments:
        if path not in self._segments:
            self._segments[path] = Segments(path, self.table)
        return self._segments[path]

    def _is_checked_png(self, kind: str, path: Path) -> bool:
        """Whether a file is a PNG in one of the codings that `multitask.data.layout` checks."""
        if kind == "image":
            return is_plain_png(path)
        files = self.description.class_ids if kind == "class_ids" else self.description.instance_ids
        if kind in ("class_ids", "instance_ids") and files:
            return not (files.table or getattr(files, "palette", False))
        return True

    def _camera_of_depth(self, path: Path, name: str) -> Camera:
        if "camera" not in self.kinds_of(name):
            raise UserError(
                f"{path}: needed {self.path('camera', name)}, since depth is learned as disparity; found none"
            )
        return read_camera(self.path("camera", name))


class DescribedLayout:
    """How a data set that a `Description` describes is opened: what a class is for other layouts."""

    whole: tuple[str, ...] = ()

    def __init__(self, description: Description) -> None:
        self.description = description

    def __call__(
        self,
        root: str | Path,
        split: str,
        image_size: Sequence[int],
        classes: ClassTable | ClassMapping,
        *,
        strict: bool = True,
        partial: bool = False,
    ) -> Described:
        return Described(self.description, root, split, image_size, classes, strict=strict, partial=partial)

    def splits(self, root: Path, kind: str = "image") -> list[str]:
        """Names of the splits for which there are files of one kind."""
        names = split_names(self.description.splits, self.description.image, root)
        pattern = self.description.pattern(kind)
        if pattern is None:
            return []
        return [name for name in names if pattern.folder(root, name).is_dir()]


def _flat(name: str) -> str:
    """A frame's name without folders, of which files are called that are written for it."""
    return name.replace("/", "_")


def _numbered(path: Path, numbers: np.ndarray, class_ids: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Instance ids (H, W) int32 of instances' numbers, 0 for none, and the class of each pixel."""
    if numbers.shape != class_ids.shape:
        raise UserError(f"{path}: needed the size of the class file, {class_ids.shape}, found {numbers.shape}")
    known, index = np.unique(numbers, return_inverse=True)
    if len(known) > INSTANCE_BASE - 1:
        raise UserError(f"{path}: needed fewer than {INSTANCE_BASE - 1} instances, found {len(known)}")
    ids = class_ids.astype(np.int32)
    single = (numbers > 0) & classes.has_instances[class_ids]
    return np.where(single, ids * INSTANCE_BASE + index.reshape(numbers.shape).astype(np.int32) + 1, ids)
