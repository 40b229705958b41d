"""Expected numbers of files of a data set, from its manifest or from an earlier check."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from multitask.data import manifest
from multitask.data.reading import read_text
from multitask.files import write_json

log = logging.getLogger(__name__)

KEPT = ".multitask_counts.json"
"""Name of the file at the root of a data set with the counts of its last faultless check."""

Counts = dict[str, dict[str, int]]
"""Number of files by split and kind."""


def check_counts(
    root: Path, splits: Sequence[str], counts: Mapping[str, int], kinds: Collection[str] | None = None
) -> None:
    """Compares the files found in a split with the expected numbers, and warns in one line if some have been lost.

    Args:
        root: of the data set.
        splits: name of the split, or the names of the splits that it is made of.
        counts: number of files found, by kind.
        kinds: kinds to compare; None: all kinds that the check found.
    Raises:
        UserError: if the data set was written by the project and its manifest names more frames.
    """
    if name := _manifest(root):
        for split in splits:  # just one: data sets of the project define their own splits
            manifest.check_frames(root, name, split, counts)
        return
    kept, before = kept_counts(root), Counter[str]()
    for split in splits:
        before.update(kept.get(split, {}))
    if fewer := [
        f"{counts.get(kind, 0)} of {count} {kind}"
        for kind, count in before.items()
        if counts.get(kind, 0) < count and (kinds is None or kind in kinds)
    ]:
        name = " and ".join(map(repr, splits))
        log.warning("data.root=%s: split %s has lost files since it was checked: %s", root, name, ", ".join(fewer))


def has_manifest(root: Path) -> bool:
    """Whether the project has written the data set, so that a manifest names its number of frames."""
    return _manifest(root) is not None


def kept_counts(root: Path) -> Counts:
    """Returns the counts that an earlier check stored; empty if there was none."""
    path = root / KEPT
    if not path.exists():
        return {}
    text, found = read_text(path), None
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
    if isinstance(found, dict) and all(map(_is_numbers, found.values())):
        return found
    log.warning("%s: not the counts of a check; another check writes it again", path)
    return {}


def keep_counts(root: Path, counts: Counts) -> list[str]:
    """Stores the counts of a check for `check_counts`; the counts of splits that no longer exist are kept.

    Returns:
        A description of each count that is lower than at the previous check.
    Raises:
        UserError: if the folder cannot be written to.
    """
    before = kept_counts(root)
    if before != (now := before | counts):
        write_json(root / KEPT, now)
    return [
        f"{counts.get(split, {}).get(kind, 0)} of {count} {kind} of {split}"
        for split, kinds in before.items()
        for kind, count in kinds.items()
        if counts.get(split, {}).get(kind, 0) < count
    ]


def _manifest(root: Path) -> str | None:
    return next((name for name in manifest.NAMES if (root / name).exists()), None)


def _is_numbers(kinds: Any) -> bool:
    return isinstance(kinds, dict) and all(type(count) is int for count in kinds.values())
