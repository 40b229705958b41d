"""Writes a data set, or checks one: python scripts/prepare_data.py data=NAME [check=true]."""

import hydra
from omegaconf import DictConfig

from _entry import plain, run, short_errors
from multitask.data.check import check
from multitask.synthetic.prepare import prepare


@hydra.main(version_base="1.3", config_path="../configs", config_name="prepare_data")
def main(given: DictConfig) -> None:
    with short_errors():
        config = plain(given)
        if config["check"]:
            check(config)
        else:
            prepare(config)


if __name__ == "__main__":
    run(main)
