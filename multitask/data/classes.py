"""Class tables, read from YAML: the classes in a data set's label files, and how they are learned."""

import colorsys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

IGNORE = 255
"""Train id of every pixel that neither trains nor counts."""

INSTANCE_BASE = 1000
"""Instance ids of single instances are ``class id * 1000 + k``; smaller values are bare class ids."""

MOST_CLASSES = 254
"""Largest number of classes in a table: class ids and train ids have 8 bits, and one value means "none"."""

UNKNOWN = 255
"""Entry of `ClassTable.class_ids` for a value that no class has."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Label:
    """One class of a table.

    Attributes:
        name: name of the class.
        id: its value in label files; None if it does not occur there.
        train_id: its channel, from 0, or `IGNORE` if its pixels neither train nor count.
        category: name of its category; the class name where the table has no categories.
        has_instances: whether single instances are annotated.
        color: RGB, 0 to 255; ignored when labels are compared.
        average_pixels: mean size of an instance in px, by which iIoU weighs; None if unknown.
    """

    name: str
    id: int | None
    train_id: int
    category: str
    has_instances: bool
    color: Color = field(compare=False)
    average_pixels: float | None = None

    @property
    def evaluated(self) -> bool:
        return self.train_id != IGNORE


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set.

    The layers of a `Sample` hold class ids: a class's index in the table, whatever its value in files.

    Attributes:
        name: name for messages; ignored when tables are compared.
        labels: the labels by class id. The first one is ignored in training and stands for pixels without a class.
        unseen_ids: class ids of pixels that do not show the scene, which every task ignores.
        sky_id: class id of the sky, which is infinitely far away; None if the table has no sky.
    """

    name: str = field(compare=False)
    labels: tuple[Label, ...]
    unseen_ids: tuple[int, ...] = ()
    sky_id: int | None = None

    @cached_property
    def evaluated(self) -> tuple[Label, ...]:
        """The classes that are learned, by train id."""
        return tuple(sorted((label for label in self.labels if label.evaluated), key=lambda label: label.train_id))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes that are learned, by train id."""
        return tuple(label.name for label in self.evaluated)

    @cached_property
    def class_id(self) -> dict[str, int]:
        """Class id by name."""
        return {label.name: class_id for class_id, label in enumerate(self.labels)}

    @cached_property
    def evaluated_ids(self) -> np.ndarray:
        """(C,) uint8: class id by train id."""
        return np.array([self.class_id[name] for name in self.names], dtype=np.uint8)

    @cached_property
    def train_ids(self) -> np.ndarray:
        """(256,) uint8: train id by class id."""
        return _padded([label.train_id for label in self.labels], IGNORE)

    @cached_property
    def class_ids(self) -> np.ndarray:
        """(256,) uint8: class id by value in label files, `UNKNOWN` where no class has it."""
        found = np.full(256, UNKNOWN, dtype=np.uint8)
        for class_id, label in enumerate(self.labels):
            if label.id is not None:
                found[label.id] = class_id
        return found

    @cached_property
    def num_identical(self) -> int:
        """Number of leading values of label files, counted from 0, that equal their class ids."""
        return next((value for value in range(256) if self.class_ids[value] != value), 255)

    @cached_property
    def label_ids(self) -> np.ndarray:
        """(256,) uint8: value in label files by class id; 0 where there is none."""
        return _padded([label.id or 0 for label in self.labels], 0)

    @cached_property
    def evaluated_label_ids(self) -> np.ndarray:
        """(C,) uint8: value in label files by train id."""
        return self.label_ids[self.evaluated_ids]

    @cached_property
    def has_instances(self) -> np.ndarray:
        """(256,) bool by class id: whether single instances are annotated."""
        return _padded([label.has_instances for label in self.labels], False)

    @cached_property
    def counted(self) -> np.ndarray:
        """(256,) bool by class id: whether single instances are learned and evaluated."""
        return _padded([label.has_instances and label.evaluated for label in self.labels], False)

    @cached_property
    def things(self) -> np.ndarray:
        """(256,) bool by train id: whether the class has instances."""
        return _padded([label.has_instances for label in self.evaluated], False)

    @cached_property
    def colors(self) -> np.ndarray:
        """(256, 3) uint8: RGB colour by train id; black for ignored pixels."""
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[: len(self.evaluated)] = [label.color for label in self.evaluated]
        return colors

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Category names by train id."""
        return tuple(label.category for label in self.evaluated)

    @property
    def code_base(self) -> int:
        """Base of the instance coding of written predictions: see `multitask.prediction.enlarge.instance_codes`."""
        ids = [label.id for label in self.evaluated if label.id is not None]
        things = [label.id for label in self.evaluated if label.has_instances]
        return INSTANCE_BASE if max(ids) < (1 << 16) // INSTANCE_BASE and 0 not in things else 256

    def difference(self, other: "ClassTable") -> str | None:
        """Describes the first channel whose class differs in another table; returns None if all are the same."""
        mine, theirs = ([_words(label) for label in table.evaluated] for table in (self, other))
        for train_id, (one, another) in enumerate(zip(mine, theirs, strict=False)):
            if one != another:
                return f"class {train_id} is {one} in {self.name}, {another} in {other.name}"
        if len(mine) != len(theirs):
            return f"{self.name} has {len(mine)} classes, {other.name} {len(theirs)}"
        return None

    def change(self, other: "ClassTable") -> str:
        """Describes the first difference from another, unequal table: in a class's meaning or in its label files."""
        if found := self.difference(other):
            return found
        mine, theirs = (
            {row["name"]: {key: value for key, value in row.items() if key != "color"} for row in content["classes"]}
            for content in (self.content(), other.content())
        )
        for name in (name for name in [*mine, *theirs] if mine.get(name) != theirs.get(name)):
            if name not in mine or name not in theirs:
                return f"class {name!r} is in one of {self.name} and {other.name} alone"
            before, now = mine[name], theirs[name]
            key = next(key for key in [*before, *now] if before.get(key) != now.get(key))
            return f"class {name!r}: {key} was {before.get(key)}, is {now.get(key)} in {other.name}"
        return f"other classes are unseen, the sky or listed in another order in {other.name}"

    def content(self) -> dict[str, Any]:
        """Returns the table as plain values, from which `multitask.data.class_tables.table_of` rebuilds it."""
        classes: list[dict[str, Any]] = []
        for label in self.labels:
            row: dict[str, Any] = {"name": label.name}
            row |= {} if label.id is None else {"id": label.id}
            row |= {"train_id": label.train_id} if label.evaluated else {"ignored": True}
            row |= {"category": label.category, "instances": label.has_instances, "color": list(label.color)}
            row |= {} if label.average_pixels is None else {"average_pixels": label.average_pixels}
            classes.append(row)
        content: dict[str, Any] = {"name": self.name, "classes": classes}
        content["unseen"] = [self.labels[class_id].name for class_id in self.unseen_ids]
        return content | ({} if self.sky_id is None else {"sky": self.labels[self.sky_id].name})


@dataclass(frozen=True)
class ClassMapping:
    """Mapping from the labels of one table to those of another.

    Attributes:
        source: the table of the label files.
        target: the table that they are converted to.
        class_ids: (256,) uint8, class id of the target by class id of the source.
    """

    source: ClassTable
    target: ClassTable
    class_ids: np.ndarray

    def apply(self, kind: str, layer: np.ndarray) -> np.ndarray:
        """Converts a layer (H, W) from source to target table; layers without classes are returned unchanged."""
        if kind == "class_ids":
            return self.class_ids[layer]
        return self._instance_ids(layer) if kind == "instance_ids" else layer

    @cached_property
    def _joined(self) -> list[int]:
        """Class ids of target classes with instances that join several source classes with instances."""
        sources = np.flatnonzero(self.source.has_instances)
        counts = np.bincount(self.class_ids[sources], minlength=256)
        return [int(class_id) for class_id in np.flatnonzero((counts > 1) & self.target.has_instances)]

    def _instance_ids(self, instance_ids: np.ndarray) -> np.ndarray:
        """Converts instance ids (H, W); a class without instances in the target keeps only its bare class id."""
        single = instance_ids >= INSTANCE_BASE
        classes = self.class_ids[class_of(instance_ids)].astype(np.int32)
        kept = single & self.target.has_instances[classes]
        ids = np.where(kept, classes * INSTANCE_BASE + instance_ids % INSTANCE_BASE, classes)
        for class_id in self._joined:  # instances of different source classes may share numbers
            members = kept & (classes == class_id)
            _, numbers = np.unique(instance_ids[members], return_inverse=True)
            ids[members] = class_id * INSTANCE_BASE + np.minimum(numbers, INSTANCE_BASE - 1)
        return ids


def class_of(instance_ids: np.ndarray) -> np.ndarray:
    """Returns the class ids of instance ids, which are ``class id * 1000 + k`` or the bare class id."""
    return np.where(instance_ids < INSTANCE_BASE, instance_ids, instance_ids // INSTANCE_BASE)


def distinct_color(number: int) -> Color:
    """Returns a colour for a class without one in its table, far from the colours of the neighbouring numbers."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.5 + 0.25 * (number % 3) / 2, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _padded(values: list[Any], rest: Any) -> np.ndarray:
    dtype = bool if isinstance(rest, bool) else np.uint8
    return np.array(values + [rest] * (256 - len(values)), dtype=dtype)


def _words(label: Label) -> str:
    return f"{label.name!r} with instances" if label.has_instances else repr(label.name)
