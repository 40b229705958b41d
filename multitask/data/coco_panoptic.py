"""The panoptic format of COCO: an RGB picture of segment numbers for each frame, and a JSON table of the segments."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from multitask.data.classes import INSTANCE_BASE, UNKNOWN, ClassTable
from multitask.data.layout import read_png
from multitask.data.reading import opened
from multitask.errors import UserError, shown


class Segment(NamedTuple):
    """One segment of a frame.

    Attributes:
        number: value of its pixels, R + 256 G + 65536 B.
        class_id: class id of the segment.
        single: whether it is a single instance, that is, of a class with instances and not a crowd.
    """

    number: int
    class_id: int
    single: bool


class Segments:
    """The segments of all frames of a split.

    Args:
        path: the JSON file.
        classes: class table; the categories' ids are its values in label files.
    Raises:
        UserError: naming the file and the fault in it.
    """

    def __init__(self, path: Path, classes: ClassTable) -> None:
        self.path = path
        content = _read_json(path)
        annotations = content.get("annotations") if isinstance(content, Mapping) else None
        if not isinstance(annotations, list):
            raise UserError(f"{path}: needed a list of annotations, found {shown(annotations)}")
        self._of: dict[str, list[Segment]] = {}
        for found in annotations:
            if (name := self._name(found)) in self._of:
                raise UserError(f"{path}: {found['file_name']}: needed the segments of each picture once, found two")
            self._of[name] = self._segments(found, classes)

    def check(self, path: Path) -> None:
        """Checks that the table lists the segments of a picture.

        Raises:
            UserError: naming both, if it lists none.
        """
        self._of_picture(path)

    def _of_picture(self, path: Path) -> list[Segment]:
        """Returns the segments of a picture, which the table may name with or without its folders."""
        parts = path.with_suffix("").parts
        for start in range(len(parts) - 1, 0, -1):
            if (found := self._of.get("/".join(parts[start:]))) is not None:
                return found
        raise UserError(f"{self.path}: needed the segments of {path}, found none")

    def read(self, path: Path, kind: str) -> np.ndarray:
        """Reads the class ids (H, W) uint8 or instance ids (H, W) int32 of a frame.

        Args:
            path: the picture of segment numbers, which the table must list.
            kind: ``class_ids`` or ``instance_ids``.
        Raises:
            UserError: naming the picture or the table, if it is damaged or lacks segments that the other has.
        """
        segments, picture = self._of_picture(path), read_png(path, "image").astype(np.int32)
        numbers = picture[..., 0] + 256 * picture[..., 1] + 65536 * picture[..., 2]
        found, index, pixels = np.unique(numbers, return_inverse=True, return_counts=True)
        values = {0: 0}  # pixels without a segment or without a class
        counts: dict[int, int] = {}
        for segment in segments:
            counts[segment.class_id] = counts.get(segment.class_id, 0) + segment.single
            values[segment.number] = self._value(segment, counts[segment.class_id], kind)
        for number, count in zip(found.tolist(), pixels.tolist(), strict=True):
            if number not in values:
                raise UserError(f"{self.path}: needed segment {number} of {path}, where {count} px have it, found none")
        dtype = np.uint8 if kind == "class_ids" else np.int32
        return np.array([values[number] for number in found.tolist()], dtype=dtype)[index.reshape(numbers.shape)]

    def _value(self, segment: Segment, count: int, kind: str) -> int:
        if kind == "class_ids" or not segment.single:
            return segment.class_id
        if count >= INSTANCE_BASE:
            raise UserError(
                f"{self.path}: needed fewer than {INSTANCE_BASE} instances of a class in a frame, found more"
            )
        return segment.class_id * INSTANCE_BASE + count

    def _name(self, annotation: Any) -> str:
        """Returns the name of an annotation's picture, without its extension."""
        name = annotation.get("file_name") if isinstance(annotation, Mapping) else None
        if not isinstance(name, str) or not PurePosixPath(name).name:
            raise UserError(f"{self.path}: annotations: needed a file_name, found {shown(name)}")
        return PurePosixPath(name).with_suffix("").as_posix()

    def _segments(self, annotation: Mapping[str, Any], classes: ClassTable) -> list[Segment]:
        where = f"{self.path}: {annotation['file_name']}"
        found = annotation.get("segments_info")
        if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
            raise UserError(f"{where}: segments_info: needed a list of segments, found {shown(found)}")
        segments: dict[int, Segment] = {}
        for row in found:
            number, category = row.get("id"), row.get("category_id")
            if type(number) is not int or not 0 < number < 1 << 24:
                raise UserError(f"{where}: id: needed a whole number from 1 to {(1 << 24) - 1}, found {shown(number)}")
            known = type(category) is int and 0 <= category < 256 and classes.class_ids[category] != UNKNOWN
            if not known:
                raise UserError(f"{where}: category_id: needed an id of {classes.name}, found {shown(category)}")
            if number in segments:
                raise UserError(f"{where}: id: needed each segment once, found {number} twice")
            class_id = int(classes.class_ids[category])
            single = bool(classes.has_instances[class_id]) and not row.get("iscrowd", 0)
            segments[number] = Segment(number, class_id, single)
        return list(segments.values())


def _read_json(path: Path) -> Any:
    with opened(path) as file:
        content = file.read()
    with suppress(ValueError, RecursionError):
        return json.loads(content)
    raise UserError(f"{path}: not a JSON file")
