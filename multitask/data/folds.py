"""Folds: division of a folder of labelled frames into blocks, each tested once by a network trained on the others."""

from typing import NamedTuple

from multitask.data.split import Split
from multitask.errors import UserError

BY_SEED = "seed"
"""Value of ``data.fold`` that lets a run's seed choose the fold: seed modulo number of folds."""

_SPLITS = ("train", "val", "test")


class Fold(NamedTuple):
    """One of several blocks of frames.

    Attributes:
        number: index of the block, from 0.
        num_folds: number of blocks.
    """

    number: int
    num_folds: int

    def block(self, num_frames: int) -> range:
        """Returns the indices of its frames; blocks are consecutive, and their sizes differ by at most one."""
        return range(self.number * num_frames // self.num_folds, (self.number + 1) * num_frames // self.num_folds)


def of_fold(frames: Split, split: str, fold: Fold) -> Split:
    """Returns one split of a fold: the block is both ``val`` and ``test``, and the other frames are ``train``.

    Consecutive frames look alike, so blocks of them are closer to unseen data than frames drawn at random.

    Args:
        frames: all frames of the folder, in the order of its files.
        split: name of the split.
        fold: the block to leave out of training.
    Raises:
        UserError: naming the key, if there is no such split, or there are fewer frames than folds.
    """
    if split not in _SPLITS:
        raise UserError(f"split {split!r}: needed one of {list(_SPLITS)} of data.folds={fold.num_folds}")
    if fold.num_folds > len(frames):
        raise UserError(
            f"data.folds: needed at most {len(frames)}, the frames of {frames.where}, found {fold.num_folds}"
        )
    block = fold.block(len(frames))
    part = frames.only([place for place in range(len(frames)) if (place in block) == (split != "train")])
    part.split, part.where = split, f"{frames.where} data.folds={fold.num_folds} data.fold={fold.number}"
    return part
