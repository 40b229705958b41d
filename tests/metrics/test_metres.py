import math

import numpy as np
import pytest

from multitask.metrics import MetricDepth
from multitask.metrics.metres import instance_distances
from tests.cityscapes import CITYSCAPES, ID
from tests.metrics.pairs import CAMERA
from tests.reference import errors_in_metres

SCALE = CAMERA.baseline * CAMERA.fx  # 100 m px


def _errors(predicted: list[float], measured: list[float], class_ids: list[int] | None = None) -> dict[str, float]:
    metric = MetricDepth(CITYSCAPES)
    ids = None if class_ids is None else np.array([class_ids])
    metric.update(np.array([predicted]), np.array([measured]), CAMERA, ids)
    return metric.compute()


def test_metric_depth_hand_worked() -> None:
    # 10 m taken for 20 m, 50 m for 40 m; 100 m, no measurement and 0 px do not count.
    figures = _errors([5, 2.5, 1, 9, 9], [10, 2, 1, math.nan, 0])
    assert figures == pytest.approx({"abs_rel": (1 + 0.2) / 2, "rms_error_m": math.sqrt(100), "delta_1.25": 0})


def test_metric_depth_within_a_factor_is_strict() -> None:
    assert _errors([8.0], [10])["delta_1.25"] == 0
    assert _errors([8.1], [10])["delta_1.25"] == 1
    assert _errors([12.4], [10])["delta_1.25"] == 1


def test_metric_depth_of_disparity_zero_or_below_is_the_farthest() -> None:
    for predicted in (0.0, -3.0, 1e-9):
        assert _errors([predicted], [2]) == pytest.approx({"abs_rel": 0.6, "rms_error_m": 30, "delta_1.25": 0})


def test_metric_depth_ignores_pixels_without_a_view() -> None:
    assert _errors([10, 1], [10, 10], [7, ID["ego vehicle"]])["rms_error_m"] == 0


def test_metric_depth_random_equals_loops() -> None:
    rng = np.random.default_rng(0)
    predicted, measured = rng.uniform(-1, 20, size=(30, 40)), rng.uniform(0, 20, size=(30, 40))
    measured[rng.random(measured.shape) < 0.3] = np.nan
    measured[:3] = 0
    metric, halves = MetricDepth(CITYSCAPES), [MetricDepth(CITYSCAPES), MetricDepth(CITYSCAPES)]
    metric.update(predicted, measured, CAMERA, CITYSCAPES)
    for half, rows in zip(halves, (slice(0, 8), slice(8, 30)), strict=True):
        half.update(predicted[rows], measured[rows], CAMERA, CITYSCAPES)
    halves[0].merge(halves[1])
    expected = errors_in_metres(predicted, measured, SCALE)
    assert metric.compute() == pytest.approx(expected)
    assert halves[0].compute() == pytest.approx(expected)


def test_metric_depth_without_a_pixel_that_counts_is_absent() -> None:
    assert _errors([1, 1], [math.nan, 0]) == {}
    assert MetricDepth(CITYSCAPES).compute() == {}


def test_instance_distance_is_the_median_of_what_is_measured() -> None:
    ids = np.array([[26001, 26001, 26001, 26, 26, 24007, 7, 29001]])
    disparity = np.array([[1, 4, math.nan, 10, 0, math.nan, 5, 5]])
    found = instance_distances(ids, np.unique(ids), disparity, CAMERA, CITYSCAPES)
    assert found.keys() == {26001, 26, 24007}
    # 100 m and 25 m; 10 m and infinitely far; nothing.
    assert found[26001] == (62.5, pytest.approx(2 / 3))
    assert found[26] == (math.inf, 1)
    assert found[24007] == (math.inf, 0)


def test_instance_distance_without_instances_is_empty() -> None:
    ids = np.full((2, 3), 7)
    assert instance_distances(ids, np.unique(ids), np.ones((2, 3)), CAMERA, CITYSCAPES) == {}
