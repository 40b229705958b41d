"""How many files a data set should have: what its manifest says, or what an earlier check found."""

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
"""The file at the root of a data set with what the last check without a fault found."""

Counts = dict[str, dict[str, int]]
"""Files of each split and kind."""


def check_counts(
    root: Path, splits: Sequence[str], there: Mapping[str, int], kinds: Collection[str] | None = None
) -> None:
    """Compares what is there of a split with what should be, and says in one line that files are fewer than at a check.

    Args:
        root: of the data set.
        splits: its name, or those of the splits that it is made of.
        there: number of files of each kind.
        kinds: that are compared; None: all that were there at a check.
    Raises:
        UserError: if the manifest of a data set that the project has written names more frames.
    """
    if name := _manifest(root):
        for split in splits:  # of one, since what the project writes has splits of its own
            manifest.check_frames(root, name, split, there)
        return
    kept, before = kept_counts(root), Counter[str]()
    for split in splits:
        before.update(kept.get(split, {}))
    if fewer := [
        f"{there.get(kind, 0)} of {count} {kind}"
        for kind, count in before.items()
        if there.get(kind, 0) < count and (kinds is None or kind in kinds)
    ]:
        name = " and ".join(map(repr, splits))
        log.warning("data.root=%s: split %s has lost files since it was checked: %s", root, name, ", ".join(fewer))


def has_manifest(root: Path) -> bool:
    """Whether the project has written a data set, so that its manifest says how many frames it has."""
    return _manifest(root) is not None


def kept_counts(root: Path) -> Counts:
    """What an earlier check found and kept; empty if there was none."""
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
    """Keeps what a check found, for `check_counts`; numbers of splits that are gone stay.

    Returns:
        In words, what has become fewer since the check before.
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
