"""Plots what runs learned: python scripts/plot.py runs=[FOLDER,...] output=FILE.png."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.engine.history import read_history
from multitask.errors import UserError
from multitask.reporting.plots import plot_weights


@hydra.main(version_base="1.3", config_path="../configs", config_name="plot")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        if not config["output"]:
            raise UserError("output: needed the path of a PNG, found none")
        if not isinstance(config["runs"], list):
            raise UserError(
                f"runs: needed a list of folders, such as [runs/quickstart/seed0], found {config['runs']!r}"
            )
        histories = {folder: read_history(Path(folder)) for folder in config["runs"]}
        for folder, history in histories.items():
            if not history:
                raise UserError(f"runs: needed folders of runs, found no history in {folder}")
        plot_weights(histories, Path(config["output"]))
        print(f"written to {config['output']}")


if __name__ == "__main__":
    run(main)
