"""Folds: a folder of labelled frames divided into blocks, each of which is tested once by a network of the others."""

from typing import NamedTuple

from multitask.data.split import Split
from multitask.errors import UserError

BY_SEED = "seed"
"""The fold of a run that leaves it to its seed: seed modulo folds."""

_SPLITS = ("train", "val", "test")


class Fold(NamedTuple):
    """One of several blocks of frames.

    Attributes:
        number: which, from 0.
        of: how many there are.
    """

    number: int
    of: int

    def block(self, num_frames: int) -> range:
        """The places of its frames among all of them: blocks follow each other, and differ by at most one frame."""
        return range(self.number * num_frames // self.of, (self.number + 1) * num_frames // self.of)


def of_fold(frames: Split, split: str, fold: Fold) -> Split:
    """One split of a fold: its block is ``val`` and ``test``, all else is ``train``.

    Frames that follow each other look alike, so that blocks of them are more nearly unseen than frames drawn at random.

    Args:
        frames: all of the folder, in the order of its files.
        split: name of the split.
        fold: which block is left out of training.
    Raises:
        UserError: naming the key, if there is no such split, or there are fewer frames than folds.
    """
    if split not in _SPLITS:
        raise UserError(f"split {split!r}: needed one of {list(_SPLITS)} of data.folds={fold.of}")
    if fold.of > len(frames):
        raise UserError(f"data.folds: needed at most {len(frames)}, the frames of {frames.where}, found {fold.of}")
    block = fold.block(len(frames))
    part = frames.only([place for place in range(len(frames)) if (place in block) == (split != "train")])
    part.split, part.where = split, f"{frames.where} data.folds={fold.of} data.fold={fold.number}"
    return part
