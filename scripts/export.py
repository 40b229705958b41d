"""Exports a network to one file: python scripts/export.py checkpoint=PATH output=FILE [format=torch]."""

import hydra
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.export import export_checkpoint


@hydra.main(version_base="1.3", config_path="../configs", config_name="export")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        differences = export_checkpoint(config["checkpoint"], config["format"], config["output"])
        print(f"written to {config['output']}; largest difference from the network's predictions:")
        for name, (difference, largest) in differences.items():
            print(f"  {name}  {difference:.2g} of {largest:.3g}")


if __name__ == "__main__":
    run(main)
