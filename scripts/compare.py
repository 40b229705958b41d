"""Compares ways to train over seeds: python scripts/compare.py experiment=table1 [seeds=[0,1,2]] [report=true]."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from _entry import end_with, plain, run, short_errors
from multitask.comparison.experiments import EXPERIMENTS
from multitask.comparison.frames import FramesOfRuns
from multitask.comparison.places import find_places, loader_overrides
from multitask.comparison.plan import Plan, check_seeds
from multitask.comparison.report import Report
from multitask.comparison.runner import Runner
from multitask.config.factories import make_classes, make_device, make_optimization, make_tasks
from multitask.data.subset import HELD_OUT
from multitask.errors import UserError

_OWN_KEYS = {"experiment", "comparison", "base", "seeds", "split", "rates", "search_seed", "parallel", "report"}
_OWN_KEYS |= {"results_dir", "output_dir"}


def run_config(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Composes the configuration of ``scripts/train.py`` for arguments."""
    try:
        return plain(compose("train", list(arguments)))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{' '.join(arguments)}: {' '.join(str(error).split())}") from error


@hydra.main(version_base="1.3", config_path="../configs", config_name="compare")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        name = config.get("comparison")
        if name not in EXPERIMENTS:
            raise UserError(f"experiment: needed one of {sorted(EXPERIMENTS)}, found {name}")
        overrides = [text for text in HydraConfig.get().overrides.task if text.partition("=")[0] not in _OWN_KEYS]
        base = [f"experiment={config['base']}", *overrides]
        shared = run_config(base)
        make_optimization(shared)  # checked here, since each run multiplies its learning rate
        check_seeds(config["seeds"], config["search_seed"])
        frames, experiment = FramesOfRuns(), EXPERIMENTS[name]
        tasks = frames.tasks_with_labels(
            make_tasks(shared, make_classes(shared)), shared, ["train", config["split"]], config["seeds"]
        )
        choice = config["seeds"], config["split"], config["rates"], config["search_seed"]
        plan = Plan(experiment, tasks, *choice)
        if plan.searches:
            tasks = frames.tasks_with_labels(tasks, shared, ["train", HELD_OUT], [plan.search_seed])
            plan = Plan(experiment, tasks, *choice)
        compute = make_device(shared)
        places = find_places(compute.device, config["parallel"])
        folder = Path(config["output_dir"])
        runner = Runner(
            plan,
            folder,
            Path(config["results_dir"]),
            run_config,
            [*base, *loader_overrides(shared, places)],
            places,
            f"{compute}, {len(places)} runs at a time" if len(places) > 1 else str(compute),
            frames.describe,
            Path(__file__).with_name("train.py"),
        )
        runner.load()
        try:
            if not config["report"]:
                runner.run()
        finally:
            report = Report(plan, runner.results, runner.failed)
            paths = report.write(folder / name)
        print(f"\n{report.text()}\nwritten to {', '.join(map(str, paths))}")
        end_with(1 if runner.failed else 0)


if __name__ == "__main__":
    run(main)
