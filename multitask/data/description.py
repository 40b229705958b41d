"""Description of a data set in user-defined folders: the paths of its files and the meaning of their values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multitask.data.patterns import Pattern
from multitask.errors import UserError, shown

CODINGS: dict[str, int] = {"id*1000+k": 1000, "id*256+k": 256}
"""Bases of the codings that hold class and instance in one number."""

NUMBER, PANOPTIC = "number", "panoptic"
"""Codings of instances: numbers alone, whose classes are in the class file, and COCO's panoptic format."""

KEYS = ("image", "class_ids", "instance_ids", "disparity", "depth", "camera", "splits")
"""Keys of the configuration group ``data`` that describe files."""


@dataclass(frozen=True)
class ClassFiles:
    """Files of class ids.

    Attributes:
        pattern: paths of the files.
        train_ids: whether their values are train ids, with 255 for ignored pixels, rather than ids of the class table.
        palette: whether a value is an index into the palette, whatever its colour.
        table: path of the table of segments, in the panoptic format; None in all others.
    """

    pattern: Pattern
    train_ids: bool = False
    palette: bool = False
    table: Pattern | None = None


@dataclass(frozen=True)
class InstanceFiles:
    """Files of instance ids.

    Attributes:
        pattern: paths of the files.
        coding: coding of the values, one of `CODINGS`, `NUMBER` and `PANOPTIC`.
        first: number of the first instance of a class; a lower number means that single instances are not annotated.
        palette: as in `ClassFiles`.
        table: path of the table of segments, in the panoptic format; None in all others.
    """

    pattern: Pattern
    coding: str
    first: int = 1
    palette: bool = False
    table: Pattern | None = None


@dataclass(frozen=True)
class DisparityFiles:
    """16-bit files of disparity: ``(value - offset) / scale`` px, not measured where the value is ``invalid``."""

    pattern: Pattern
    scale: float
    offset: float = 0.0
    invalid: int = 0


@dataclass(frozen=True)
class DepthFiles:
    """16-bit files of depth: ``value * unit_m`` m, not measured where the value is ``invalid``.

    Attributes:
        pattern: paths of the files.
        unit_m: depth of one unit, m.
        invalid: value of pixels that are not measured.
        focal_times_baseline: disparity times depth at the size of the file, px m; None: taken from each frame's camera.
    """

    pattern: Pattern
    unit_m: float
    invalid: int = 0
    focal_times_baseline: float | None = None


@dataclass(frozen=True)
class Description:
    """A data set in user-defined folders.

    Attributes:
        image: paths of the pictures.
        class_ids, instance_ids, disparity, camera: the other kinds of files; None where there are none. The
            measurements are either disparity or depth.
        splits: division into splits, see `multitask.data.listed`; None: a split's frames are in a folder of its name.
        plain: whether all pictures must be 8-bit RGB PNGs.
    """

    image: Pattern
    class_ids: ClassFiles | None = None
    instance_ids: InstanceFiles | None = None
    disparity: DisparityFiles | DepthFiles | None = None
    camera: Pattern | None = None
    splits: Any = None
    plain: bool = False

    def pattern(self, kind: str) -> Pattern | None:
        """Returns the paths of the files of a kind; None if there are none."""
        found = getattr(self, kind)
        return found if found is None or isinstance(found, Pattern) else found.pattern


def describe(data: Mapping[str, Any]) -> Description:
    """Parses the description in a configuration group ``data``.

    Raises:
        UserError: naming the key.
    """
    if data.get("image") is None:
        raise UserError("data.image: needed a pattern such as images/{split}/{name}.jpg, found none")
    if data.get("disparity") is not None and data.get("depth") is not None:
        raise UserError("data.depth: needed disparity or depth, found both")
    description = Description(
        Pattern(data["image"], "data.image"),
        _classes(data.get("class_ids")),
        _instances(data.get("instance_ids")),
        _disparity(data.get("disparity")) or _depth(data.get("depth"), data.get("camera")),
        None if data.get("camera") is None else Pattern(data["camera"], "data.camera"),
        data.get("splits"),
    )
    if description.instance_ids and description.instance_ids.coding == NUMBER and not description.class_ids:
        raise UserError("data.class_ids: needed for data.instance_ids.coding=number, which says no class; found none")
    for kind in ("class_ids", "instance_ids", "disparity", "camera"):
        pattern = description.pattern(kind)
        if pattern and pattern.text == description.image.text:
            raise UserError(f"{pattern.key}: needed other files than data.image, found {pattern.text!r} for both")
    return description


def _classes(given: Any) -> ClassFiles | None:
    key, found = "data.class_ids", _group(given, "data.class_ids", ("path", "labels", "palette", "coding", "json"))
    if found is None:
        return None
    pattern = Pattern(found.get("path"), f"{key}.path")
    if found.get("coding") is not None:
        coding = _one_of(found["coding"], f"{key}.coding", (PANOPTIC,))
        _refuse(found, key, ("labels", "palette"), coding)
        return ClassFiles(pattern, table=_table(found, key))
    _refuse(found, key, ("json",), None)
    labels = _one_of(found.get("labels", "ids"), f"{key}.labels", ("ids", "train_ids"))
    return ClassFiles(pattern, labels == "train_ids", _palette(found, key))


def _instances(given: Any) -> InstanceFiles | None:
    known = ("path", "coding", "first", "palette", "json")
    key, found = "data.instance_ids", _group(given, "data.instance_ids", known)
    if found is None:
        return None
    pattern = Pattern(found.get("path"), f"{key}.path")
    coding = _one_of(found.get("coding"), f"{key}.coding", (*CODINGS, NUMBER, PANOPTIC))
    if coding != "id*256+k":
        _refuse(found, key, ("first",), coding)
    if coding != NUMBER:
        _refuse(found, key, ("palette",), coding)
    if coding == PANOPTIC:
        return InstanceFiles(pattern, coding, table=_table(found, key))
    _refuse(found, key, ("json",), coding)
    first = found.get("first", 0 if coding == "id*1000+k" else 1)
    if type(first) is not int or first not in (0, 1):
        raise UserError(f"{key}.first: needed 0 or 1, found {shown(first)}")
    return InstanceFiles(pattern, coding, first, _palette(found, key))


def _disparity(given: Any) -> DisparityFiles | None:
    key, found = "data.disparity", _group(given, "data.disparity", ("path", "scale", "offset", "invalid"))
    if found is None:
        return None
    pattern = Pattern(found.get("path"), f"{key}.path")
    scale, offset = _above_zero(found.get("scale"), f"{key}.scale"), found.get("offset", 0)
    if type(offset) not in (int, float) or not math.isfinite(offset):
        raise UserError(f"{key}.offset: needed a number, found {shown(offset)}")
    return DisparityFiles(pattern, scale, float(offset), _invalid(found, key))


def _depth(given: Any, camera: Any) -> DepthFiles | None:
    keys = ("path", "unit_m", "invalid", "focal_times_baseline")
    key, found = "data.depth", _group(given, "data.depth", keys)
    if found is None:
        return None
    pattern, unit = Pattern(found.get("path"), f"{key}.path"), _above_zero(found.get("unit_m"), f"{key}.unit_m")
    product = found.get("focal_times_baseline")
    if product is None and camera is None:
        raise UserError(f"{key}.focal_times_baseline: needed px m, or data.camera; found neither")
    product = None if product is None else _above_zero(product, f"{key}.focal_times_baseline")
    return DepthFiles(pattern, unit, _invalid(found, key), product)


def _group(given: Any, key: str, known: tuple[str, ...]) -> dict[str, Any] | None:
    """Returns the keys for a kind of file; a string is taken as its path."""
    if given is None:
        return None
    if isinstance(given, str):
        return {"path": given}
    if not isinstance(given, Mapping):
        raise UserError(f"{key}: needed a pattern, or the keys {list(known)}, found {shown(given)}")
    for name in given:
        if name not in known:
            raise UserError(f"{key}.{str(name)[:80]}: unknown key, needed some of {list(known)}")
    return dict(given)


def _refuse(found: Mapping[str, Any], key: str, names: tuple[str, ...], coding: str | None) -> None:
    """Refuses keys that do not apply to a coding, which would otherwise be ignored."""
    for name in names:
        if found.get(name) is not None:
            raise UserError(f"{key}.{name}: no key of {key}.coding={coding or 'null'}, found {shown(found[name])}")


def _palette(found: Mapping[str, Any], key: str) -> bool:
    if not isinstance(palette := found.get("palette", False), bool):
        raise UserError(f"{key}.palette: needed true or false, found {shown(palette)}")
    return palette


def _table(found: Mapping[str, Any], key: str) -> Pattern:
    if found.get("json") is None:
        raise UserError(f"{key}.json: needed the table of the segments, such as panoptic_{{split}}.json, found none")
    return Pattern(found["json"], f"{key}.json", named=False)


def _one_of(value: Any, key: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"{key}: needed one of {list(known)}, found {shown(value)}")
    return str(value)


def _above_zero(value: Any, key: str) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise UserError(f"{key}: needed a number above zero, found {shown(value)}")
    return float(value)


def _invalid(found: Mapping[str, Any], key: str) -> int:
    value = found.get("invalid", 0)
    if type(value) is not int or not 0 <= value < 1 << 16:
        raise UserError(f"{key}.invalid: needed a value of 16 bits, found {shown(value)}")
    return value
