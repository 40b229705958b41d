"""Trains a network: python scripts/train.py [experiment=quickstart] [key=value ...]."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.engine.history import read_history
from multitask.evaluation.scoring import figure_groups
from multitask.reporting.tables import results_text, weights_text
from multitask.runs.run import Run


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        training = Run(config)
        figures = training.train()
        print(f"\n{results_text(figures, figure_groups(training.tasks))}")
        if text := weights_text(read_history(Path(config["output_dir"])), training.tasks):
            print(f"\n{text}")
        print(f"\nwritten to {config['output_dir']}: checkpoints, metrics.json, panels, TensorBoard events")


if __name__ == "__main__":
    run(main)
