import numpy as np
import pytest

from multitask.metrics import AveragePrecision, PredictedInstance
from multitask.metrics.average_precision import OVERLAPS, SCOPES
from multitask.metrics.metres import instance_distances
from multitask.metrics.overlaps import count_overlaps
from tests.cityscapes import CITYSCAPES, ID, INSTANCE_CLASSES
from tests.metrics.pairs import CAMERA, Pair, random_pair
from tests.reference import Frame, average_precision

CAR, PERSON = ID["car"], ID["person"]


def _add(
    metric: AveragePrecision, truth: np.ndarray, found: np.ndarray, instances: list[PredictedInstance]
) -> AveragePrecision:
    metric.update(count_overlaps(truth, None, None, found), instances)
    return metric


def _cars(num_true: int, num_found: int, confidence: list[float]) -> AveragePrecision:
    """Cars of 200 px, the first ``num_found`` of which are found exactly, and what else is predicted is on road."""
    truth, found = np.full((20, 200), 7), np.zeros((20, 200), dtype=np.int64)
    for number in range(num_true):
        truth[:, number * 10 : number * 10 + 10] = CAR * 1000 + number
    for number in range(len(confidence)):
        left = number * 10 if number < num_found else 190 - (number - num_found) * 10
        found[:, left : left + 10] = number + 1
    instances = [PredictedInstance(number + 1, CAR, score) for number, score in enumerate(confidence)]
    return _add(AveragePrecision(CITYSCAPES), truth, found, instances)


def test_ap_hand_worked() -> None:
    # Ranked: right, wrong, right; a third car is missed. Points (recall, precision): (2/3, 2/3), (1/3, 1/2),
    # (1/3, 1), (0, 1), each with half the way to its neighbours.
    figures = _cars(3, 2, [0.9, 0.3, 0.5]).compute()
    expected = (2 / 3 * 1 / 3 + 1 / 2 * 1 / 3 + 1 * 1 / 3 + 1 * 1 / 3) / 2
    assert figures["ap"] == pytest.approx(expected)
    assert figures["ap50"] == pytest.approx(expected)
    assert figures["ap/car"] == pytest.approx(expected)
    assert figures.keys() == {"ap", "ap50", "ap/car", "ap50/car"}


def test_ap_of_a_perfect_prediction_is_one() -> None:
    assert _cars(3, 3, [0.9, 0.3, 0.5]).compute()["ap"] == pytest.approx(1)


def test_ap_depends_on_the_order_of_confidence_alone() -> None:
    one = _cars(4, 3, [0.9, 0.3, 0.5, 0.4, 0.1]).compute()
    assert _cars(4, 3, [90.0, -3.0, 5.0, 4.0, -10.0]).compute() == one
    assert _cars(4, 3, [0.1, 0.3, 0.5, 0.4, 0.9]).compute()["ap"] < one["ap"]


def test_ap_at_an_overlap_needs_more_than_it() -> None:
    truth = np.full((10, 200), 7)
    truth[:, :100] = CAR * 1000
    for width, matched in ((50, 0), (51, 1), (91, 9), (99, 10)):
        found = np.zeros_like(truth)
        found[:, :width] = 1
        figures = _add(AveragePrecision(CITYSCAPES), truth, found, [PredictedInstance(1, CAR, 1.0)]).compute()
        assert figures["ap"] == pytest.approx(matched / len(OVERLAPS)), width


def test_ap_of_duplicates_counts_all_but_the_surest_as_wrong() -> None:
    truth, found = np.full((10, 200), 7), np.zeros((10, 200), dtype=np.int64)
    truth[:, :100] = CAR * 1000
    found[:, :100] = 1
    surer = [PredictedInstance(1, CAR, 0.2), PredictedInstance(1, CAR, 0.8)]
    # Points (1, 1/2), (1, 1), (0, 1): the duplicate costs nothing, since the first was right already.
    assert _add(AveragePrecision(CITYSCAPES), truth, found, surer).compute()["ap"] == pytest.approx(1)
    tied = [PredictedInstance(1, CAR, 0.8), PredictedInstance(1, CAR, 0.8)]
    # Points (1, 1/2), (0, 1): half of each.
    assert _add(AveragePrecision(CITYSCAPES), truth, found, tied).compute()["ap"] == pytest.approx(0.75)


@pytest.mark.parametrize("elsewhere", [CAR, 0, 3, CAR * 1000 + 2])
def test_ap_ignores_predictions_on_groups_void_and_small_instances(elsewhere: int) -> None:
    truth, found = np.full((10, 200), 7), np.zeros((10, 200), dtype=np.int64)
    truth[:, :100] = CAR * 1000
    truth[:, 190:199] = elsewhere  # 90 px, all of which the second prediction covers
    found[:, :100], found[:, 190:199] = 1, 2
    instances = [PredictedInstance(1, CAR, 0.5), PredictedInstance(2, CAR, 0.9)]
    assert _add(AveragePrecision(CITYSCAPES), truth, found, instances).compute()["ap"] == pytest.approx(1)
    truth[:, 190:199] = 7
    assert _add(AveragePrecision(CITYSCAPES), truth, found, instances).compute()["ap"] < 1


def test_ap_where_nothing_is_found_is_zero() -> None:
    assert _cars(3, 0, []).compute() == {"ap": 0, "ap50": 0, "ap/car": 0, "ap50/car": 0}


def test_ap_where_all_that_is_found_is_ignored_is_zero() -> None:
    truth, found = np.zeros((20, 200), dtype=np.int64), np.zeros((20, 200), dtype=np.int64)
    truth[:, :10], found[:, 50:60] = CAR * 1000, 1
    assert _add(AveragePrecision(CITYSCAPES), truth, found, [PredictedInstance(1, CAR, 1.0)]).compute()["ap"] == 0


def test_ap_without_true_instances_is_absent() -> None:
    assert _cars(0, 0, [0.5, 0.2]).compute() == {}
    assert AveragePrecision(CITYSCAPES).compute() == {}


def test_ap_merged_equals_one() -> None:
    whole = AveragePrecision(CITYSCAPES)
    parts = [AveragePrecision(CITYSCAPES), AveragePrecision(CITYSCAPES)]
    for seed in range(6):
        sample, scene = random_pair(seed)
        overlaps = count_overlaps(sample.instance_ids, None, None, scene.instance_map)
        whole.update(overlaps, scene.instances)
        parts[seed % 2].update(overlaps, scene.instances)
    parts[0].merge(parts[1])
    assert parts[0].compute() == pytest.approx(whole.compute(), rel=1e-12)


@pytest.fixture(scope="module")
def far_pairs() -> list[Pair]:
    """Frames with instances on both sides of 1000 px, 100 m, 50 m and half measured."""
    return [random_pair(seed, (96, 128), (300, 5000)) for seed in range(12)]


def _with_distances(pairs: list[Pair]) -> AveragePrecision:
    metric = AveragePrecision(CITYSCAPES)
    for sample, scene in pairs:
        assert sample.instance_ids is not None
        assert sample.disparity is not None
        overlaps = count_overlaps(sample.instance_ids, None, None, scene.instance_map)
        distances = instance_distances(sample.instance_ids, overlaps.truth_ids, sample.disparity, CAMERA, CITYSCAPES)
        metric.update(overlaps, scene.instances, distances)
    return metric


def _loops(pairs: list[Pair], suffix: str) -> dict[str, float]:
    scale = CAMERA.baseline * CAMERA.fx
    frames: list[Frame] = [
        (sample.instance_ids, scene.instance_map, list(scene.instances), sample.disparity, scale)  # type: ignore[misc]
        for sample, scene in pairs
    ]
    scope = SCOPES[suffix]
    figures = {}
    for class_id, name in INSTANCE_CLASSES.items():
        values = [average_precision(frames, class_id, overlap, *scope) for overlap in OVERLAPS]  # type: ignore[arg-type]
        if None not in values:
            figures[f"ap{suffix}/{name}"] = np.mean(values)
    return ({f"ap{suffix}": np.mean(list(figures.values()))} | figures) if figures else {}


@pytest.mark.parametrize("suffix", ["100m", "50m"])
@pytest.mark.parametrize("together", [1, 4, 12])
def test_ap_within_a_distance_equals_loops(far_pairs: list[Pair], suffix: str, together: int) -> None:
    seen = 0
    for first in range(0, 12 if together > 1 else 8, together):
        pairs = far_pairs[first : first + together]
        expected = _loops(pairs, suffix)
        found = {key: value for key, value in _with_distances(pairs).compute().items() if suffix in key}
        assert found == pytest.approx(expected, rel=0, abs=1e-9)
        seen += len(expected)
    assert seen > 0


def test_ap_within_a_distance_differs_from_ap(far_pairs: list[Pair]) -> None:
    figures = _with_distances(far_pairs).compute()
    assert len({round(figures[key], 6) for key in ("ap", "ap100m", "ap50m")}) == 3


def test_ap_within_a_distance_is_absent_where_one_frame_lacks_it() -> None:
    metric = _with_distances([random_pair(0, (96, 128), (300, 5000))])
    sample, scene = random_pair(1)
    metric.update(count_overlaps(sample.instance_ids, None, None, scene.instance_map), scene.instances)
    assert {"ap", "ap50"} <= metric.compute().keys()
    assert not {key for key in metric.compute() if key.endswith("0m")}
