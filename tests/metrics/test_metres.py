import math

import numpy as np
import pytest

from multitask.metrics import MetricDepth
from multitask.metrics.metres import instance_distances
from multitask.tasks.depth import Depth
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
    assert figures == pytest.approx(
        {
            "abs_rel": (1 + 0.2) / 2,
            "rms_error_m": math.sqrt(100),
            "delta_1.25": 0,  # factors of 2 and 1.25
            "delta_1.25_2": 0.5,
            "delta_1.25_3": 0.5,
            "log10": (0.30103 + 0.09691) / 2,
            "silog": 100 * (0.693147 + 0.223144) / 2,  # of two, half of what lies between them
        },
        rel=1e-5,
    )


@pytest.mark.parametrize(("key", "power"), [("delta_1.25", 1), ("delta_1.25_2", 2), ("delta_1.25_3", 3)])
def test_metric_depth_within_a_factor_is_strict(key: str, power: int) -> None:
    factor = 1.25**power
    assert _errors([8.0], [8 * factor])[key] == 0
    assert _errors([8.0 * factor], [8])[key] == 0
    assert _errors([8.1], [8 * factor])[key] == 1
    assert _errors([7.9 * factor], [8])[key] == 1


def test_metric_depth_of_disparity_zero_or_below_is_the_farthest() -> None:
    for predicted in (0.0, -3.0, 1e-9):
        figures = _errors([predicted], [2])
        assert (figures["abs_rel"], figures["rms_error_m"]) == pytest.approx((0.6, 30))
        assert figures["log10"] == pytest.approx(math.log10(80 / 50))
        # A factor of 1.6, and a single pixel has no spread.
        assert [figures[key] for key in ("delta_1.25", "delta_1.25_2", "delta_1.25_3", "silog")] == [0, 0, 1, 0]


def test_metric_depth_silog_forgives_a_common_factor() -> None:
    rng = np.random.default_rng(1)
    measured = rng.uniform(5, 50, size=200)  # 2 to 20 m
    predicted = measured * rng.uniform(0.8, 1.25, size=200)
    near, far = (_errors(list(values), list(measured)) for values in (predicted, predicted / 2))
    assert far["silog"] == pytest.approx(near["silog"], rel=1e-9)
    assert near["abs_rel"] < 0.15
    assert far["abs_rel"] > 0.9
    assert far["log10"] > 0.25


def test_metric_depth_silog_of_all_wrong_by_one_factor_is_zero() -> None:
    measured = np.linspace(3, 60, 1000)
    for factor in (0.5, 0.7, 1.1, 3.0):  # some of whose variances rounding takes below 0, which has no real root
        silog = _errors(list(measured * factor), list(measured))["silog"]
        assert isinstance(silog, float)
        assert silog == pytest.approx(0, abs=1e-4)


def test_metric_depth_silog_is_of_the_data_set_and_not_a_mean_over_frames() -> None:
    frames = [([10.0, 12.0], [10.0, 10.0]), ([5.0, 6.0], [10.0, 10.0])]
    each = [_errors(*frame)["silog"] for frame in frames]
    assert each == pytest.approx([100 * math.log(1.2) / 2] * 2)
    metric = MetricDepth(CITYSCAPES)
    for predicted, measured in frames:
        metric.update(np.array([predicted]), np.array([measured]), CAMERA)
    # Logarithms 0, ln 1.2, -ln 2 and ln 1.2 - ln 2: the spread within frames and that between them.
    expected = 100 * math.hypot(math.log(1.2) / 2, math.log(2) / 2)
    assert metric.compute()["silog"] == pytest.approx(expected)


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
    assert expected.keys() == {figure.key for figure in Depth.figures} - {"mean_error_px", "rms_error_px"}
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
