import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from multitask.data.sample import Sample
from multitask.errors import UserError
from multitask.metrics import PredictedInstance, PredictedScene, SceneMetrics
from tests.cityscapes import CITYSCAPES, ID
from tests.metrics.pairs import Pair, random_pair

FAR = (96, 128)


def _metrics(*pairs: Pair) -> SceneMetrics:
    metrics = SceneMetrics(CITYSCAPES, "pixels", "objects", "metres")
    for sample, scene in pairs:
        metrics.update(sample, scene)
    return metrics


def _pair(seed: int) -> Pair:
    """A frame with all layers, true and predicted."""
    sample, scene = random_pair(seed, FAR, (300, 5000))
    assert sample.disparity is not None
    return sample, replace(scene, disparity=np.nan_to_num(sample.disparity, nan=1.0) + 0.1)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [_pair(seed) for seed in range(8)]


def test_scene_figures_have_the_fixed_names(pairs: list[Pair]) -> None:
    figures = _metrics(*pairs).compute()
    assert {
        "pixels/iou_class",
        "pixels/iiou_class",
        "pixels/iou_category",
        "pixels/iiou_category",
        "pixels/iou/road",
        "objects/ap",
        "objects/ap50",
        "objects/ap100m",
        "objects/ap50m",
        "objects/ap/car",
        "panoptic/pq",
        "panoptic/sq_things",
        "panoptic/rq_stuff",
        "metres/abs_rel",
        "metres/rms_error_m",
        "metres/delta_1.25",
        "metres/delta_1.25_2",
        "metres/delta_1.25_3",
        "metres/log10",
        "metres/silog",
    } <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())


def test_scene_metrics_merged_after_pickling_equal_one(pairs: list[Pair]) -> None:
    parts = [_metrics(*pairs[:3]), _metrics(), _metrics(*pairs[3:])]
    merged = _metrics()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.compute() == pytest.approx(_metrics(*pairs).compute(), rel=1e-12)


def test_scene_metrics_keep_no_pixels(pairs: list[Pair]) -> None:
    once = len(pickle.dumps(_metrics(*pairs)))
    thrice = len(pickle.dumps(_metrics(*pairs * 3)))
    # Numbers of tables only: a frame of this size has 12 k pixels.
    assert (thrice - once) / (2 * len(pairs)) < 4000


@pytest.mark.parametrize(
    ("lacking", "absent"),
    [
        ({"class_ids": None}, {"pixels"}),
        ({"disparity": None}, {"metres"}),
        ({"camera": None}, {"metres"}),
        ({"instance_ids": None}, {"objects", "panoptic"}),
        ({"class_ids": None, "instance_ids": None}, {"pixels", "objects", "panoptic"}),
        ({"class_ids": None, "instance_ids": None, "disparity": None}, {"pixels", "objects", "panoptic", "metres"}),
    ],
)
def test_scene_figures_without_a_kind_of_label_are_absent(
    pairs: list[Pair], lacking: dict[str, Any], absent: set[str]
) -> None:
    figures = _metrics(*((replace(sample, **lacking), scene) for sample, scene in pairs)).compute()
    assert {key.split("/")[0] for key in figures} == {"pixels", "objects", "panoptic", "metres"} - absent
    if "metres" in absent:
        assert not {key for key in figures if key.startswith("objects/ap100m")}
    if "instance_ids" in lacking:
        assert not {key for key in figures if key.startswith("pixels/iiou")}


@pytest.mark.parametrize(
    ("lacking", "absent"),
    [
        ({"train_ids": None}, {"pixels", "panoptic"}),
        ({"instance_map": None, "instances": ()}, {"objects", "panoptic"}),
        ({"disparity": None}, {"metres"}),
        ({"train_ids": None, "instance_map": None, "instances": (), "disparity": None}, None),
    ],
)
def test_scene_figures_without_a_prediction_are_absent(
    pairs: list[Pair], lacking: dict[str, Any], absent: set[str] | None
) -> None:
    figures = _metrics(*((sample, replace(scene, **lacking)) for sample, scene in pairs)).compute()
    everything = {"pixels", "objects", "panoptic", "metres"}
    assert {key.split("/")[0] for key in figures} == everything - (everything if absent is None else absent)


def test_scene_without_any_instance_predicted_has_no_precision(pairs: list[Pair]) -> None:
    empty = np.zeros(FAR, dtype=np.int64)
    figures = _metrics(
        *((sample, replace(scene, train_ids=empty, instance_map=empty, instances=())) for sample, scene in pairs)
    ).compute()
    assert figures["objects/ap"] == figures["objects/ap50"] == figures["objects/ap100m"] == 0
    assert figures["panoptic/pq_things"] == 0
    assert figures["pixels/iou/car"] == 0


def test_scene_of_no_frame_has_no_figures() -> None:
    assert _metrics().compute() == {}


NEEDS = {
    "class_ids": {"pixels"},
    "instance_ids": {"pixels/iiou", "objects", "panoptic"},
    "disparity": {"objects/ap100m", "objects/ap50m", "metres"},
    "camera": {"objects/ap100m", "objects/ap50m", "metres"},
}


def _without(figures: dict[str, float], start: str) -> dict[str, float]:
    return {key: value for key, value in figures.items() if not key.startswith(start)}


@pytest.mark.parametrize("kind", list(NEEDS))
def test_scene_figures_are_of_the_frames_that_have_their_truth(pairs: list[Pair], kind: str) -> None:
    """Half the frames lack a kind: what needs it is the figure of the others, the rest that of all."""
    mixed = [(replace(sample, **{kind: None}) if i % 2 else sample, scene) for i, (sample, scene) in enumerate(pairs)]
    found, whole, half = (_metrics(*chosen).compute() for chosen in (mixed, pairs, pairs[::2]))
    needs = tuple(NEEDS[kind])
    expected = {key: value for key, value in whole.items() if not key.startswith(needs)}
    expected |= {key: value for key, value in half.items() if key.startswith(needs)}
    if kind == "class_ids":  # which tell errors in metres what is unseen
        found, expected = (
            {k: v for k, v in table.items() if not k.startswith("metres")} for table in (found, expected)
        )
    assert found == pytest.approx(expected, rel=1e-12)
    assert found != pytest.approx(whole, rel=1e-6)


def test_scene_metrics_of_frames_with_other_labels_merge(pairs: list[Pair]) -> None:
    bare = [(replace(sample, disparity=None, instance_ids=None), scene) for sample, scene in pairs[4:]]
    merged = _metrics(*pairs[:4])
    merged.merge(_metrics(*bare))
    assert merged.compute() == pytest.approx(_metrics(*pairs[:4], *bare).compute(), rel=1e-12)


def test_scene_metrics_of_other_predictions_do_not_merge(pairs: list[Pair]) -> None:
    sample, scene = pairs[1]
    with pytest.raises(ValueError, match=r"merge: needed the layers .*, predicted disparity, .*found"):
        _metrics(pairs[0]).merge(_metrics((sample, replace(scene, disparity=None))))


@pytest.mark.parametrize("kind", ["train_ids", "disparity"])
def test_scene_prediction_missing_for_some_frames_is_refused(pairs: list[Pair], kind: str) -> None:
    (sample, scene), before = pairs[1], _metrics(pairs[0])
    expected = before.compute()
    with pytest.raises(ValueError, match=rf"{sample.name}: needed the layers of the frames before.*{kind}.*; found"):
        before.update(sample, replace(scene, **{kind: None}))  # type: ignore[arg-type]
    assert before.compute() == expected


@pytest.mark.parametrize("kind", ["train_ids", "instance_map", "disparity"])
def test_scene_prediction_of_another_size_is_refused(pairs: list[Pair], kind: str) -> None:
    sample, scene = pairs[0]
    smaller = getattr(scene, kind)[:-1]
    with pytest.raises(
        ValueError, match=rf"{sample.name}: predicted .*needed the truth's size \(96, 128\), found \(95,"
    ):
        _metrics((sample, replace(scene, **{kind: smaller})))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scene_disparity_that_is_not_finite_is_refused(pairs: list[Pair], value: float) -> None:
    sample, scene = pairs[0]
    assert scene.disparity is not None
    disparity = scene.disparity.copy()
    disparity[3, :2] = value
    with pytest.raises(UserError, match=f"{sample.name}: predicted disparity: needed finite px, found 2"):
        _metrics((sample, replace(scene, disparity=disparity)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_ids": np.full(FAR, 19)}, "predicted train ids: needed 0 to 18, found 19"),
        ({"train_ids": np.full(FAR, 255, np.uint8)}, "predicted train ids: needed 0 to 18, found 255"),
        ({"train_ids": np.zeros(FAR)}, "predicted train ids: needed whole numbers, found float64"),
        ({"instance_map": np.full(FAR, -1)}, "numbers in the instance map: needed 0 to 16777215, found -1"),
        ({"instances": ()}, "instance map: needed numbers of the 0 instances given, found"),
        ({"instances": [PredictedInstance(1, 13, 0.5)]}, r"needed a class id of \[24, 25, .*\], found 13"),
        ({"instances": [PredictedInstance(1, ID["caravan"], 0.5)]}, "needed a class id of .*, found 29"),
        ({"instances": [PredictedInstance(0, ID["car"], 0.5)]}, "needed a number from 1, found 0"),
        ({"instances": [PredictedInstance(1, ID["car"], np.nan)]}, "needed a finite confidence, found nan"),
    ],
)
def test_scene_prediction_of_other_classes_is_refused(pairs: list[Pair], changed: dict[str, Any], message: str) -> None:
    sample, scene = next(pair for pair in pairs if pair[1].instances)
    with pytest.raises(ValueError, match=f"{sample.name}: .*{message}") as raised:
        _metrics((sample, replace(scene, **changed)))
    assert not isinstance(raised.value, UserError), "a fault of the program"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("class_ids", 34, "true class ids: needed 0 to 33, found 34"),
        ("instance_ids", 34000, "true instance ids: needed 0 to 33999, found 34000"),
        ("instance_ids", 900, "true instance ids: needed class ids from 0 to 33, found 900"),
    ],
)
def test_scene_truth_of_other_classes_is_refused(pairs: list[Pair], kind: str, value: int, message: str) -> None:
    sample, scene = pairs[0]
    with pytest.raises(UserError, match=f"{sample.name}: {message}"):
        _metrics((replace(sample, **{kind: np.full(FAR, value)}), scene))  # type: ignore[arg-type]


def test_scene_takes_a_prediction_without_pixels() -> None:
    nothing = np.zeros((4, 4), dtype=np.int64)
    sample = Sample("a_0_0", np.zeros((4, 4, 3), np.uint8), nothing, nothing)
    scene = PredictedScene(nothing, nothing, [PredictedInstance(3, ID["car"], 0.5)])
    assert _metrics((sample, scene)).compute() == {}
