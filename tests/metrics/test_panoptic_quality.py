import numpy as np
import pytest

from multitask.metrics import PanopticQuality, PredictedInstance
from multitask.metrics.overlaps import count_overlaps
from tests.cityscapes import CITYSCAPES, CLASS_NAMES, ID
from tests.metrics.pairs import random_pair

ROAD, SKY, CAR = 0, CLASS_NAMES.index("sky"), CLASS_NAMES.index("car")


def _quality(
    truth: list[int], train_ids: list[int], numbers: list[int], instances: list[PredictedInstance]
) -> dict[str, float]:
    metric = PanopticQuality(CITYSCAPES)
    metric.update(count_overlaps(*(np.array([row]) for row in (truth, truth, train_ids, numbers))), instances)
    return metric.compute()


def test_pq_hand_worked() -> None:
    car = PredictedInstance(5, ID["car"], 1.0)
    wrong = PredictedInstance(6, ID["car"], 1.0)
    # Road: 6 of 7 px; a car: 3 of 4 px, found with one of road; a second car on road; a car missed.
    figures = _quality(
        [7] * 7 + [26001] * 4 + [26002] * 2,
        [ROAD] * 6 + [CAR] + [CAR] * 3 + [ROAD] * 3,
        [0] * 5 + [6, 5] + [5] * 3 + [0] * 3,
        [car, wrong],
    )
    # The segment of road has px 0 to 4 and 10 to 12: 5 common, of 7 + 8.
    assert "pq/sky" not in figures
    assert figures["pq/road"] == 0
    assert figures["sq/car"] == pytest.approx(3 / 5)
    assert figures["rq/car"] == pytest.approx(1 / (1 + 0.5 + 0.5))
    assert figures["pq/car"] == pytest.approx(3 / 5 / 2)
    assert figures["pq"] == pytest.approx(3 / 5 / 4)
    assert figures["pq_things"] == pytest.approx(3 / 5 / 2)
    assert figures["pq_stuff"] == 0


def test_pq_of_each_class_is_sq_times_rq() -> None:
    metric = PanopticQuality(CITYSCAPES)
    for seed in range(5):
        sample, scene = random_pair(seed)
        layers = (sample.instance_ids, sample.class_ids, scene.train_ids, scene.instance_map)
        metric.update(count_overlaps(*layers), scene.instances)
    figures = metric.compute()
    seen = [name for name in CLASS_NAMES if f"pq/{name}" in figures]
    assert len(seen) > 10
    for name in seen:
        assert figures[f"pq/{name}"] == pytest.approx(figures[f"sq/{name}"] * figures[f"rq/{name}"])


def test_pq_void_and_groups_excuse_what_lies_on_them() -> None:
    instances = [PredictedInstance(1, ID["car"], 1.0), PredictedInstance(2, ID["car"], 1.0)]
    truth = [7] * 4 + [26001] * 2
    perfect = {"pq": 1, "sq": 1, "rq": 1}
    for other in (0, ID["car"], ID["caravan"], ID["caravan"] * 1000):
        figures = _quality(truth + [other] * 3, [ROAD] * 4 + [CAR] * 5, [0] * 4 + [1] * 2 + [2] * 3, instances)
        assert {key: figures[key] for key in perfect} == perfect, other


def test_pq_of_things_outside_instances_is_nothing() -> None:
    figures = _quality([26001] * 4, [CAR] * 4, [0] * 4, [])
    assert figures["pq/car"] == 0
    assert figures["rq"] == 0
    assert "pq_stuff" not in figures


def test_pq_instance_found_twice_has_the_surer_class() -> None:
    twice = [PredictedInstance(1, ID["car"], 0.6), PredictedInstance(1, ID["bus"], 0.4)]
    assert _quality([26001] * 4, [CAR] * 4, [1] * 4, twice)["pq/car"] == 1
    assert _quality([26001] * 4, [CAR] * 4, [1] * 4, twice[::-1])["pq/car"] == 1


def test_pq_of_nothing_but_void_is_absent() -> None:
    assert _quality([0, 1, 3], [CAR, ROAD, SKY], [0, 0, 0], []) == {}
    assert PanopticQuality(CITYSCAPES).compute() == {}


def test_pq_merged_equals_one() -> None:
    whole, parts = PanopticQuality(CITYSCAPES), [PanopticQuality(CITYSCAPES), PanopticQuality(CITYSCAPES)]
    for seed in range(6):
        sample, scene = random_pair(seed)
        layers = (sample.instance_ids, sample.class_ids, scene.train_ids, scene.instance_map)
        for metric in (whole, parts[seed % 2]):
            metric.update(count_overlaps(*layers), scene.instances)
    parts[0].merge(parts[1])
    assert parts[0].compute() == pytest.approx(whole.compute(), rel=1e-12)
