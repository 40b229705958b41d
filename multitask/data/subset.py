"""Selection of a run's frames: those of its fold, without the held-out ones, and of the rest a random draw."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multitask.data.folds import BY_SEED, Fold
from multitask.data.formats import check_keys, open_split
from multitask.data.manifest import check_manifest
from multitask.data.split import Split
from multitask.data.streams import DRAW
from multitask.errors import UserError, shown

HELD_OUT = "held_out"
"""Name of the split of training frames that are kept out of training for model selection."""


def open_frames(data: Mapping[str, Any], split: str, seed: int) -> Split:
    """Opens a run's frames of one split: of the data set itself, of a fold, or `HELD_OUT`.

    ``train`` is the split to train on, whatever the data set calls it.

    Args:
        data: the configuration group ``data``.
        split: name of the split.
        seed: the run's seed, which may determine the fold and the draw.
    Raises:
        UserError: naming the key, folder or file at fault.
    """
    check_keys(data)
    if data.get("name") == "synthetic" and "root" in data:
        check_manifest(Path(data["root"]), data)
    fold = fold_of(data, seed)
    if split not in ("train", HELD_OUT):
        return open_split(data, split, fold)
    if not isinstance(train := data.get("train_split", "train"), str):
        raise UserError(f"data.train_split: needed the name of a split, found {shown(train)}")
    frames = open_split(data, train, fold)
    held_out, draw = data.get("held_out", 0), data.get("draw")
    if not _is_whole_number(held_out) or not 0 <= held_out < len(frames):
        raise UserError(f"data.held_out: needed 0 to {len(frames) - 1} frames, found {held_out!r}")
    rest = len(frames) - held_out
    if split == HELD_OUT:
        if not held_out:
            raise UserError(f"split {HELD_OUT!r}: needed data.held_out above zero, found {held_out}")
        return frames.only(range(rest, len(frames)))
    if draw is None:
        return frames.only(range(rest))
    if not _is_whole_number(draw) or not 1 <= draw <= rest:
        raise UserError(f"data.draw: needed null or 1 to {rest} frames, found {draw!r}")
    drawn = np.random.default_rng((seed, DRAW)).choice(rest, draw, replace=False)
    return frames.only(sorted(drawn.tolist()))


def fold_of(data: Mapping[str, Any], seed: int) -> Fold | None:
    """Returns the block of frames that training leaves out; None if ``data.folds`` is not set.

    Raises:
        UserError: naming the key.
    """
    folds: Any = data.get("folds")
    number: Any = data.get("fold")
    if folds is None:
        if number is not None:
            raise UserError(f"data.folds: needed how many there are for data.fold={shown(number)}, found null")
        return None
    if not _is_whole_number(folds) or folds < 2:
        raise UserError(f"data.folds: needed null or a whole number from 2, found {shown(folds)}")
    if number == BY_SEED:
        number = seed % folds
    if not _is_whole_number(number) or not 0 <= number < folds:
        raise UserError(f"data.fold: needed 0 to {folds - 1} or {BY_SEED}, found {shown(number)}")
    return Fold(number, folds)


def _is_whole_number(value: Any) -> bool:
    return type(value) is int  # isinstance would accept True
