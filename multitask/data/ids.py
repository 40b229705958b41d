"""Decoding of label files to class ids and instance ids, and the check that two label files of a frame agree."""

from functools import cache
from pathlib import Path

import numpy as np

from multitask.data.classes import IGNORE, INSTANCE_BASE, UNKNOWN, ClassTable, class_of
from multitask.errors import UserError


def read_class_ids(path: Path, coded: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Returns the class ids (H, W) uint8 of a label file's values; an unknown value is an error that names the file."""
    if int(coded.max(initial=0)) < classes.num_identical:
        return coded.astype(np.uint8, copy=False)
    ids = classes.class_ids[coded]
    if (unknown := ids == UNKNOWN).any():
        train_ids = np.unique(classes.train_ids)
        hint = "; its values look like train ids" if np.isin(coded, train_ids).all() else ""
        raise UserError(f"{path}: needed ids of the class table {classes.name}, found {_counted(coded[unknown])}{hint}")
    return ids


def read_train_ids(path: Path, coded: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Returns the class ids (H, W) uint8 of a label file with train ids, 255 for ignored; others are an error."""
    ids = np.full(256, UNKNOWN, dtype=np.uint8)
    ids[: len(classes.names)] = classes.evaluated_ids
    ids[IGNORE] = 0
    found = ids[coded]
    if (unknown := found == UNKNOWN).any():
        last = len(classes.names) - 1
        raise UserError(f"{path}: needed train ids from 0 to {last}, or {IGNORE}, found {_counted(coded[unknown])}")
    return found


def read_instance_ids(path: Path, coded: np.ndarray, classes: ClassTable, base: int, first: int = 1) -> np.ndarray:
    """Returns the instance ids (H, W) int32 of an instance file's values.

    Args:
        path: the file, for the error.
        coded: (H, W) uint16, ``id * base + k`` with the class's value ``id`` in label files. With a base of 1000, as in
            Cityscapes, values below 1000 are bare ids. For a class without instances, k is ignored.
        classes: class table of the file; with a base of 1000 checked by `check_thousands`.
        base: 1000 or 256.
        first: smallest k of a single instance; a smaller k gives only the class.
    Raises:
        UserError: naming the file, if a class is unknown.
    """
    ids = _instance_codes(classes, base, first).take(coded)
    if int(ids.min(initial=0)) < 0:
        unknown = ids < 0
        raise UserError(
            f"{path}: needed id * {base} + k of the class table {classes.name}, found {_counted(coded[unknown])}"
        )
    return ids


def check_thousands(classes: ClassTable, where: str) -> None:
    """Refuses a table whose instances cannot be coded in 16 bits as ``id * 1000 + k``.

    Raises:
        UserError: naming the class.
    """
    most = ((1 << 16) - 1) // INSTANCE_BASE
    for label in classes.labels:
        if label.has_instances and label.id is not None and not 1 <= label.id <= most:
            raise UserError(
                f"{where}: class {label.name!r} of {classes.name}: needed an id from 1 to {most}, since its instances "
                f"are coded as id * {INSTANCE_BASE} + k in 16 bits, found {label.id}"
            )


@cache
def _instance_codes(classes: ClassTable, base: int, first: int) -> np.ndarray:
    """Returns (65536,) int32: instance id by value in files, -1 where the table has no such class."""
    coded = np.arange(1 << 16)
    label_ids, numbers = np.divmod(coded, base)
    bare = (coded < base) & (base > 256)
    label_ids = np.where(bare, coded, label_ids)
    known = label_ids < 256
    class_ids = np.where(known, classes.class_ids[label_ids & 255], UNKNOWN)
    ids = class_ids.astype(np.int32)
    single = ~bare & (numbers >= first) & classes.has_instances[class_ids]
    return np.where(class_ids == UNKNOWN, -1, np.where(single, ids * INSTANCE_BASE + numbers, ids)).astype(np.int32)


def number_instances(path: Path, numbers: np.ndarray, class_ids: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Combines instance numbers (H, W), 0 for none, and class ids (H, W) into instance ids (H, W) int32.

    An instance with pixels of several classes becomes one instance of each.

    Raises:
        UserError: naming the file, if its size differs, or it has more instances than instance ids can number.
    """
    if numbers.shape != class_ids.shape:
        raise UserError(f"{path}: needed the size of the class file, {class_ids.shape}, found {numbers.shape}")
    known = np.unique(numbers[numbers > 0])
    if len(known) >= INSTANCE_BASE:
        raise UserError(f"{path}: needed at most {INSTANCE_BASE - 1} instances, found {len(known)}")
    ids = class_ids.astype(np.int32)
    single = (numbers > 0) & classes.has_instances[class_ids]
    return np.where(single, ids * INSTANCE_BASE + np.searchsorted(known, numbers).astype(np.int32) + 1, ids)


def _counted(values: np.ndarray) -> str:
    """Lists unexpected values (N,) and their numbers of pixels, for errors."""
    found, pixels = np.unique(values, return_counts=True)
    words = [f"{value} in {count} px" for value, count in zip(found[:3].tolist(), pixels.tolist(), strict=False)]
    return ", ".join(words) + (f" and {len(found) - 3} others" if len(found) > 3 else "")


def contradiction(class_ids: np.ndarray, instance_ids: np.ndarray, classes: ClassTable) -> tuple[str, str] | None:
    """Describes a disagreement between a frame's label files on the class of a pixel; returns None if there is none.

    They agree where the class of an instance (its id // 1000) is the pixel's class, and where a bare id (of stuff, of a
    group, of an ignored class) equals the pixel's class id.

    Args:
        class_ids: (H, W).
        instance_ids: (H, W), all of known classes.
        classes: class table of both.
    Returns:
        The kind of file that is probably wrong, and a description of what was found in it.
    """
    # This runs for every frame that is read: in 16 bits, where the table allows it, it takes a quarter of the time.
    bits = np.uint16 if len(classes.labels) <= (1 << 16) // INSTANCE_BASE else np.uint32
    if _agree(class_ids.astype(bits), instance_ids.astype(bits)).all():
        return None
    others = class_of(instance_ids)
    differs = others != class_ids
    place = np.unravel_index(int(differs.argmax()), differs.shape)
    one, other = class_ids[differs], others[differs]
    kind, found, needed = "class_ids", class_ids[place], others[place]
    hint = _hint(one, other, classes)
    if not hint and _hint(other, one, classes):
        kind, found, needed, hint = "instance_ids", others[place], class_ids[place], _hint(other, one, classes)
    return kind, (
        f"another class in {100 * differs.mean():.3g} % of the pixels, such as {_named(classes, found)} for "
        f"{_named(classes, needed)} in row {place[0]}, column {place[1]}{hint}"
    )


def _agree(class_ids: np.ndarray, instance_ids: np.ndarray) -> np.ndarray:
    """Returns (H, W) bool, True where both layers have the same class; both have one unsigned dtype. No division."""
    # Pixels of another class, or with a bare id, lie outside of this thousand, even if the subtraction wraps around.
    first = class_ids * class_ids.dtype.type(INSTANCE_BASE)
    single = (instance_ids - first < INSTANCE_BASE) & (class_ids > 0)
    return single | (instance_ids == class_ids)


def _hint(ids: np.ndarray, other: np.ndarray, classes: ClassTable) -> str:
    """Returns a hint if the ids (N,) look like train ids of the other file's classes, ignored ones apart, or ""."""
    meant = classes.train_ids[other]
    counts = meant != IGNORE
    alike = counts.any() and (meant == classes.label_ids[ids])[counts].mean() > 0.9
    return "; its values look like train ids" if alike else ""


def _named(classes: ClassTable, class_id: int) -> str:
    """Returns a class's value in files and its name."""
    label = classes.labels[class_id]
    return label.name if label.id is None else f"{label.id} ({label.name})"
