"""What ids label files may hold, and whether two label files of one frame agree."""

from pathlib import Path

import numpy as np

from multitask.data.labels import IGNORE, INSTANCE_BASE, LABELS, TRAIN_ID
from multitask.errors import UserError

_TRAIN_IDS = np.unique(TRAIN_ID)


def check_class_ids(path: Path, ids: np.ndarray) -> np.ndarray:
    """Class ids (H, W), if all are known; else an error that names the file."""
    if (largest := int(ids.max())) >= len(LABELS):
        hint = "; its values look like train ids" if np.isin(ids, _TRAIN_IDS).all() else ""
        raise UserError(f"{path}: needed class ids from 0 to {len(LABELS) - 1}, found {largest}{hint}")
    return ids


def check_instance_ids(path: Path, ids: np.ndarray) -> np.ndarray:
    """Instance ids (H, W), if the classes of all are known; else an error that names the file."""
    most = len(LABELS) * INSTANCE_BASE
    if (largest := int(ids.max())) >= most:
        raise UserError(f"{path}: needed instance ids below {most}, found {largest}")
    # Below zero 16 bits begin at their end again: only what is no class and no instance is left below this difference.
    if (ids.astype(np.uint16) - np.uint16(len(LABELS))).min() < INSTANCE_BASE - len(LABELS):
        unknown = int(ids[(ids >= len(LABELS)) & (ids < INSTANCE_BASE)].max())
        raise UserError(f"{path}: needed class ids from 0 to {len(LABELS) - 1}, found {unknown}")
    return ids


def contradiction(class_ids: np.ndarray, instance_ids: np.ndarray) -> tuple[str, str] | None:
    """What is wrong where the label files of a frame do not agree on the class of each pixel; None where they do.

    They do where the class of an instance (its id // 1000) is the pixel's, and where a bare id (of stuff, of a group,
    of what is ignored) is the pixel's class id itself. Licence plates, which have no id, are unlabeled in both.

    Args:
        class_ids: (H, W).
        instance_ids: (H, W), all known.
    Returns:
        The kind whose file is wrong, as far as that can be told, and what was found in it.
    """
    if _agree(class_ids, instance_ids).all():
        return None
    classes = np.where(instance_ids < INSTANCE_BASE, instance_ids, instance_ids // INSTANCE_BASE)
    differs = classes != class_ids
    place = np.unravel_index(int(differs.argmax()), differs.shape)
    one, other = class_ids[differs], classes[differs]
    kind, found, needed = "class_ids", class_ids[place], classes[place]
    hint = _hint(one, other)
    if not hint and _hint(other, one):
        kind, found, needed, hint = "instance_ids", classes[place], class_ids[place], _hint(other, one)
    return kind, (
        f"another class in {100 * differs.mean():.3g} % of the pixels, such as {found} ({LABELS[found].name}) for "
        f"{needed} ({LABELS[needed].name}) in row {place[0]}, column {place[1]}{hint}"
    )


def _agree(class_ids: np.ndarray, instance_ids: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a pixel has one class; every frame that is read is asked this, so no division is done."""
    ids, numbers = instance_ids.astype(np.uint16), class_ids.astype(np.uint16)
    # Of another class, or with a bare id, a pixel lies outside of these thousand, also where 16 bits begin again.
    single = (ids - numbers * np.uint16(INSTANCE_BASE) < INSTANCE_BASE) & (numbers > 0)
    return single | (ids == numbers)


def _hint(ids: np.ndarray, other: np.ndarray) -> str:
    """Whether ids (N,) of pixels are the train ids of the other file's classes there, but for ignored ones."""
    meant = TRAIN_ID[other]
    counts = meant != IGNORE
    alike = counts.any() and (meant == ids)[counts].mean() > 0.9
    return "; its values look like train ids" if alike else ""
