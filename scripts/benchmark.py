"""Measures speed, as ratios taken in one run: python scripts/benchmark.py [parts=[...]] [repeats=5] [num_frames=4]."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.benchmark import measure
from multitask.console import markdown
from multitask.files import write_json


@hydra.main(version_base="1.3", config_path="../configs", config_name="benchmark")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        results = measure(config["repeats"], config["parts"], config["num_frames"])
        print(
            markdown(
                [["measurement", "value", "unit"], *([name, f"{v:.3g}", unit] for name, (v, unit) in results.items())]
            )
        )
        if config["output_dir"]:
            path = Path(config["output_dir"]) / "benchmark.json"
            write_json(path, {name: {"value": value, "unit": unit} for name, (value, unit) in results.items()})
            print(f"\nwritten to {path}")


if __name__ == "__main__":
    run(main)
