from collections import Counter

import numpy as np
import pytest

from multitask.data.classes import class_of
from multitask.metrics.overlaps import count_overlaps


def _layers(rng: np.random.Generator, size: tuple[int, int]) -> list[np.ndarray]:
    """Instance ids, class ids, train ids and numbers, up to the largest that are allowed."""
    return [
        rng.choice([0, 7, 26, 26001, 33999], size=size).astype(np.int32),
        rng.choice([0, 7, 33], size=size).astype(np.uint8),
        rng.choice([0, 13, 18], size=size).astype(np.uint8),
        rng.choice([0, 1, 2**24 - 1], size=size).astype(np.int64),
    ]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 500)])
def test_overlaps_equal_a_count_of_pixels(size: tuple[int, int]) -> None:
    layers = _layers(np.random.default_rng(0), size)
    found = count_overlaps(*layers)
    rows = {tuple(int(x) for x in row[:4]): int(row[4]) for row in zip(*found, strict=True)}
    assert rows == Counter(zip(*(layer.ravel().tolist() for layer in layers), strict=True))


def test_overlaps_of_long_runs_are_whole() -> None:
    layer = np.zeros((400, 1000), dtype=np.int32)
    layer[250:] = 7
    found = count_overlaps(layer, layer.astype(np.uint8), None, None)
    assert found.truth_ids.tolist() == [0, 7]
    assert found.pixels.tolist() == [250_000, 150_000]


def test_overlaps_of_missing_layers_are_zero() -> None:
    found = count_overlaps(None, None, np.array([[3, 3, 4]]), None)
    assert found.truth_ids.tolist() == found.class_ids.tolist() == found.numbers.tolist() == [0, 0]
    assert found.train_ids.tolist() == [3, 4]
    assert found.pixels.tolist() == [2, 1]


def test_overlaps_without_layers_are_none() -> None:
    assert [len(column) for column in count_overlaps(None, None, None, None)] == [0] * 5


def test_class_of_bare_and_numbered_ids() -> None:
    assert class_of(np.array([7, 26, 999, 26000, 33999])).tolist() == [7, 26, 999, 26, 33]
