"""The frames of the runs of a comparison, which differ between seeds if each seed tests its own fold."""

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
    """The opened splits of all runs; each is opened once per fold and data configuration."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, Fold | None, str], Split] = {}
        self._described: dict[int, str] = {}

    def describe(self, split: str, config: Config) -> str:
        """Describes a split's frames in a run, before a subset is drawn.

        Args:
            split: name of the split.
            config: configuration of the run.
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
        """Returns the tasks that have labels in all splits of all seeds; logs which have none, and where.

        Args:
            tasks: the tasks to choose from, by name.
            config: configuration of a run; its seed is ignored.
            splits: names of the splits.
            seeds: seeds of the runs.
        Raises:
            UserError: if no task is left, or a split cannot be opened.
        """
        opened = [self._open(split, {**config, "seed": seed}) for split in splits for seed in seeds]
        different = {id(frames): frames for frames in opened}
        on = dict(tasks)
        for frames in different.values():
            on = tasks_with_labels(on, frames)
        return on

    def _open(self, split: str, config: Config) -> Split:
        data = {**config["data"], "draw": None}  # the drawn subset depends on the seed
        key = split, fold_of(config["data"], make_seed(config)), json.dumps(data, sort_keys=True)
        if key not in self._opened:
            self._opened[key] = make_frames({**config, "data": data}, split)
        return self._opened[key]


def folds_in_words(config: Mapping[str, object], plan: Plan) -> str:
    """Describes the folds for a report; empty without folds.

    Args:
        config: flat configuration of any run.
        plan: plan of the experiment.
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
