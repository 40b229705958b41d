"""Evaluates a checkpoint: python scripts/evaluate.py checkpoint=PATH [split=val] [key=value ...]."""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.evaluation.scoring import figure_groups
from multitask.reporting.tables import results_text


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        figures, tasks, path = evaluate_checkpoint(config, list(HydraConfig.get().overrides.task))
        if text := results_text(figures, figure_groups(tasks), classes=True):
            print(f"\n{text}\n")
        print(f"written to {path}")


if __name__ == "__main__":
    run(main)
