"""Draws the figures of the documentation that need no network: python scripts/figures.py [output_dir=docs]."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.benchmark.figure4 import figure4


@hydra.main(version_base="1.3", config_path="../configs", config_name="figures")
def main(given: DictConfig) -> None:
    with short_errors():
        path = Path(plain(given)["output_dir"]) / "figure4.png"
        figure4(path)
        print(f"written to {path}")


if __name__ == "__main__":
    run(main)
