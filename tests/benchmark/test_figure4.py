from pathlib import Path

import numpy as np
from PIL import Image

from multitask.benchmark import figure4 as figures
from multitask.benchmark.ceiling import noisy_truth
from multitask.instances import group
from multitask.synthetic import render
from tests.cityscapes import CITYSCAPES


def _owners(frame: int, number: int) -> np.ndarray:
    """Shares of a true instance's pixels by the found instance that they are given to, the largest first."""
    scene = render(0, "val", frame, figures._SIZE)
    classes, vectors = noisy_truth(scene.class_ids, scene.instance_ids, CITYSCAPES, np.random.default_rng(0))
    found = group(classes, vectors, CITYSCAPES).ids[scene.instance_ids == number]
    return np.unique(found, return_counts=True)


def test_the_car_behind_poles_is_one_and_the_cars_that_touch_are_two() -> None:
    main = {}
    for frame, number in ((1, 26002), (13, 26001), (13, 26002)):
        ids, counts = _owners(frame, number)
        main[frame, number] = ids[counts.argmax()]
        assert counts.max() > 0.85 * counts.sum()
    assert all(main.values())
    assert main[13, 26001] != main[13, 26002]
    shown = [frame for frame, _ in figures._CASES.values()]
    assert shown == [1, 13]


def test_figure4_has_a_column_for_each_case(tmp_path: Path) -> None:
    figures.figure4(tmp_path / "figure4.png")
    with Image.open(tmp_path / "figure4.png") as picture:
        assert picture.width > 2 * 512
        assert picture.height > 3 * 256
