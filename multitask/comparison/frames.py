"""Which frames the runs of a comparison have: those of each seed are others with folds that are left to the seed."""

import json
from collections.abc import Mapping, Sequence

from multitask.comparison.plan import Plan
from multitask.comparison.results import describe
from multitask.config.factories import Config, make_frames, make_seed
from multitask.data.folds import BY_SEED, Fold
from multitask.data.split import Split
from multitask.data.subset import fold_of
from multitask.tasks.base import Task
from multitask.tasks.labels import tasks_with_labels


class FramesOfRuns:
    """Opens each split once for each fold and each way in which runs divide their frames."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, Fold | None, str], Split] = {}
        self._described: dict[int, str] = {}

    def describe(self, split: str, config: Config) -> str:
        """Which frames a split has in a run, before some are drawn.

        Args:
            split: name of the split.
            config: of the run.
        Raises:
            UserError: naming the key, folder or file, if it cannot be opened.
        """
        frames = self._open(split, config)
        if id(frames) not in self._described:
            self._described[id(frames)] = describe(frames)
        return self._described[id(frames)]

    def tasks_with_labels(
        self, tasks: Mapping[str, Task], config: Config, splits: Sequence[str], seeds: Sequence[int]
    ) -> dict[str, Task]:
        """The tasks that have labels in all these splits of all seeds; a line says which have none, and where.

        Args:
            tasks: to choose from, by name.
            config: of a run; the seed in it is passed over.
            splits: names of splits.
            seeds: of runs.
        Raises:
            UserError: if none is left, or a split cannot be opened.
        """
        opened = [self._open(split, {**config, "seed": seed}) for split in splits for seed in seeds]
        different = {id(frames): frames for frames in opened}
        on = dict(tasks)
        for frames in different.values():
            on = tasks_with_labels(on, frames)
        return on

    def _open(self, split: str, config: Config) -> Split:
        data = {**config["data"], "draw": None}  # what is drawn is the seed's
        key = split, fold_of(config["data"], make_seed(config)), json.dumps(data, sort_keys=True)
        if key not in self._opened:
            self._opened[key] = make_frames({**config, "data": data}, split)
        return self._opened[key]


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
