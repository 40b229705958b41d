"""Which frames the runs of a comparison have: with folds that are left to the seed, those of each seed are others."""

from collections.abc import Mapping, Sequence

from multitask import build
from multitask.build import Config
from multitask.comparison.plan import Plan
from multitask.comparison.results import describe
from multitask.data.folds import BY_SEED, Fold
from multitask.data.split import Split
from multitask.tasks.base import Task


class FramesOfSeeds:
    """Opens each split once for each fold.

    Args:
        config: of a run; the seed in it is passed over.
    """

    def __init__(self, config: Config) -> None:
        # What is drawn is the seed's.
        self._config = {**config, "data": {**config["data"], "draw": None}}
        self._opened: dict[tuple[str, Fold | None], Split] = {}
        self._described: dict[tuple[str, Fold | None], str] = {}

    def describe(self, split: str, seed: int) -> str:
        """Which frames a split has in a run of a seed, before some are drawn.

        Raises:
            UserError: naming the key, folder or file, if it cannot be opened.
        """
        key = split, self._fold(seed)
        if key not in self._described:
            self._described[key] = describe(self._open(split, seed))
        return self._described[key]

    def tasks_with_labels(
        self, tasks: Mapping[str, Task], splits: Sequence[str], seeds: Sequence[int]
    ) -> dict[str, Task]:
        """The tasks that have labels in all these splits of all seeds; a line says which have none, and where.

        Raises:
            UserError: if none is left, or a split cannot be opened.
        """
        different = {id(frames): frames for split in splits for seed in seeds for frames in [self._open(split, seed)]}
        on = dict(tasks)
        for frames in different.values():
            on = build.tasks_with_labels(on, frames)
        return on

    def _open(self, split: str, seed: int) -> Split:
        key = split, self._fold(seed)
        if key not in self._opened:
            self._opened[key] = build.make_frames({**self._config, "seed": seed}, split)
        return self._opened[key]

    def _fold(self, seed: int) -> Fold | None:
        return build.make_fold({**self._config, "seed": seed})


def folds_in_words(config: Mapping[str, object], plan: Plan) -> str:
    """What a report says of folds; nothing where there are none.

    Args:
        config: flat, of any run.
        plan: of the experiment.
    """
    folds, fold = config.get("data.folds"), config.get("data.fold")
    if not isinstance(folds, int):
        return ""
    if fold != BY_SEED:
        return f"Of {folds} contiguous blocks of frames number {fold} is tested and the others are trained on. "
    tested = len({seed % folds for seed in plan.seeds})
    what = "every frame is" if tested == folds else f"the frames of {tested} of {folds} folds are"
    text = (
        f"Seed s is tested on fold s mod {folds} of {folds}, contiguous blocks of frames, and trained on the others: "
        f"{what} tested, and deviations over seeds are over frames, too. "
    )
    if plan.searches:
        text += f"Choices are those of fold {plan.search_seed % folds}, on training images that other folds test. "
    return text
