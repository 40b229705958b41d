"""Predicts pictures: python scripts/predict.py checkpoint=PATH input=FILE|FOLDER|GLOB|VIDEO output_dir=DIR."""

import signal
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from _entry import end_with, plain, run, short_errors
from multitask.engine.interruption import handled_signals
from multitask.prediction.command import predict
from multitask.prediction.journal import has_begun

_ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that would end Python at once; SIGINT raises an exception already."""


@hydra.main(version_base="1.3", config_path="../configs", config_name="predict")
def main(config: DictConfig) -> None:
    # Signals raise an exception, so that the lines of all finished pictures are printed.
    with handled_signals(lambda number, _: sys.exit(128 + number), _ENDING), short_errors():
        values = plain(config)
        try:
            predicted = predict(values)
        except (SystemExit, KeyboardInterrupt):
            if values["output_dir"] and has_begun(Path(values["output_dir"])):
                print("what is done is written; the same command goes on from there", file=sys.stderr)
            raise
        print(predicted)
        end_with(1 if predicted.failures else 0)


if __name__ == "__main__":
    run(main)
