"""Predicts pictures: python scripts/predict.py checkpoint=PATH input=FILE|FOLDER|GLOB|VIDEO output_dir=DIR."""

import signal
import sys

import hydra
from omegaconf import DictConfig

from _entry import plain, short_errors
from multitask.data.parallel import STOPPING
from multitask.prediction.command import predict


@hydra.main(version_base="1.3", config_path="../configs", config_name="predict")
def main(config: DictConfig) -> None:
    # By an exception, so that the lines of all pictures that are done appear. What is ignored stays so: nohup's SIGHUP.
    handlers = {number: signal.getsignal(number) for number in STOPPING if number != signal.SIGINT}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        with short_errors():
            predicted = predict(plain(config))
            print(predicted)
            sys.exit(1 if predicted.failures else 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
