"""Pictures and scenes made for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from multitask.metrics import PredictedInstance, PredictedScene
from multitask.prediction.command import Predicted, predict
from multitask.prediction.scene import Scene, make_scene
from tests.cityscapes import CITYSCAPES
from tests.compose import config

ROAD, CAR, PERSON = 7, 26, 24


def photo(size: tuple[int, int] = (24, 48), seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8, smooth colours and some noise."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    noise = np.random.default_rng(seed).integers(0, 30, size)
    bands = (rows * 200 / size[0], columns * 200 / size[1], np.full(size, 90))
    return np.stack([band + noise for band in bands], axis=-1).astype(np.uint8)


def write_photo(path: Path, size: tuple[int, int] = (24, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(size, seed)).save(path)
    return path


def street() -> Scene:
    """A road of 40 x 80 px with two cars and a person, the second car the surer."""
    return make_scene(street_predicted(), (40, 80), CITYSCAPES)


def street_predicted() -> PredictedScene:
    """The same at half the size."""
    train_ids = np.zeros((20, 40), dtype=np.uint8)
    numbers = np.zeros((20, 40), dtype=np.int32)
    disparity = np.full((20, 40), 1.0, dtype=np.float32)
    for number, (train_id, part) in enumerate(
        [(13, np.s_[2:8, 3:13]), (13, np.s_[10:18, 20:38]), (11, np.s_[2:10, 16:20])], start=1
    ):
        train_ids[part], numbers[part], disparity[part] = train_id, number, number
    found = [PredictedInstance(1, CAR, 0.5), PredictedInstance(2, CAR, 0.9), PredictedInstance(3, PERSON, 0.7)]
    return PredictedScene(train_ids, numbers, found, disparity)


def run_predict(trained: Path, given: Path | str, output: Path, **changed: Any) -> Predicted:
    """What the command does, on the CPU."""
    keys = {"checkpoint": str(trained), "input": str(given), "output_dir": str(output)}
    return predict({**config(name="predict"), **keys, "device": "cpu", "precision": "fp32", **changed})
