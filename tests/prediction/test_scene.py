import numpy as np
import pytest

from multitask.data.layout import Camera
from multitask.metrics import PredictedInstance, PredictedScene
from multitask.prediction.scene import Scene, SceneInstance, make_scene
from tests.cityscapes import CITYSCAPES
from tests.prediction.made import CAR, PERSON, ROAD, street

CAMERA = Camera(baseline=0.2, fx=100.0, fy=100.0, u0=40.0, v0=20.0)


def test_make_scene_lists_instances_the_surest_first_at_the_picture_s_size() -> None:
    scene = street()
    # Made at 20 x 40 px for a picture of 40 x 80: everything twice as long, disparity twice as large.
    assert scene.instances == [
        SceneInstance(1, "car", CAR, 0.9, (40, 20, 76, 36), 36 * 16, pytest.approx(4.0, abs=0.2)),
        SceneInstance(2, "person", PERSON, 0.7, (32, 4, 40, 20), 8 * 16, pytest.approx(6.0, abs=0.7)),
        SceneInstance(3, "car", CAR, 0.5, (6, 4, 26, 16), 20 * 12, pytest.approx(2.0, abs=0.1)),
    ]


def test_make_scene_maps_agree_with_the_list() -> None:
    scene = street()
    assert scene.class_ids is not None
    assert scene.instance_ids is not None
    assert scene.disparity is not None
    assert (scene.class_ids.dtype, scene.instance_ids.dtype, scene.disparity.dtype) == (np.uint8, np.int32, np.float32)
    for instance in scene.instances:
        mask = scene.instance_ids == instance.id
        rows, columns = np.nonzero(mask)
        assert instance.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert instance.area == mask.sum()
        assert instance.disparity == np.median(scene.disparity[mask])
        assert (scene.class_ids[mask] == instance.class_id).all()
    assert (scene.class_ids[scene.instance_ids == 0] == ROAD).all()
    assert scene.instance_ids.max() == 3


def test_coded_instance_ids_count_each_class_from_zero() -> None:
    scene = street()
    assert scene.instance_codes() == [26000, 24000, 26001]
    coded = scene.coded_instance_ids()
    assert coded is not None
    assert coded.dtype == np.uint16
    assert (coded[30, 50], coded[10, 35], coded[10, 10], coded[0, 0]) == (26000, 24000, 26001, ROAD)
    assert set(np.unique(coded)) == {26000, 24000, 26001, ROAD}


def test_instance_codes_never_become_those_of_the_next_class() -> None:
    instances = [SceneInstance(k, "car", CAR, 0.5, (0, 0, 1, 1), 1, None) for k in range(1, 1100)]
    codes = Scene((1, 1), None, None, instances, None, CITYSCAPES).instance_codes()
    assert codes[:2] == [26000, 26001]
    assert codes[998:1001] == [26998, 26999, 26999]
    assert max(codes) == 26999


def test_make_scene_drops_instances_without_a_pixel_at_the_picture_s_size() -> None:
    numbers = np.zeros((8, 8), dtype=np.int32)
    numbers[:, :4] = 2
    numbers[0, 7] = 1
    found = [PredictedInstance(1, PERSON, 0.9), PredictedInstance(2, CAR, 0.8), PredictedInstance(3, CAR, 0.7)]
    scene = make_scene(PredictedScene(np.zeros((8, 8), dtype=np.uint8), numbers, found), (2, 2), CITYSCAPES)
    assert [(x.id, x.class_name, x.area) for x in scene.instances] == [(1, "car", 2)]
    assert scene.instance_ids is not None
    assert scene.instance_ids.tolist() == [[1, 0], [1, 0]]


def test_make_scene_disparity_scales_with_width_alone_and_is_never_negative() -> None:
    predicted = PredictedScene(disparity=np.full((10, 20), 3.0))
    scene = make_scene(predicted, (50, 60), CITYSCAPES)
    assert scene.disparity is not None
    assert scene.disparity.shape == (50, 60)
    np.testing.assert_allclose(scene.disparity, 9.0)
    below = make_scene(PredictedScene(disparity=np.full((10, 20), -3.0)), (10, 20), CITYSCAPES)
    assert below.disparity is not None
    assert (below.disparity == 0).all()


def test_make_scene_of_disparity_alone_has_nothing_else() -> None:
    scene = make_scene(PredictedScene(disparity=np.ones((4, 4))), (4, 4), CITYSCAPES)
    assert (scene.class_ids, scene.instance_ids, scene.instances) == (None, None, [])
    assert scene.coded_instance_ids() is None


def test_make_scene_without_disparity_knows_no_distance() -> None:
    numbers = np.ones((4, 4), dtype=np.int32)
    predicted = PredictedScene(np.full((4, 4), 13, dtype=np.uint8), numbers, [PredictedInstance(1, CAR, 0.5)])
    scene = make_scene(predicted, (4, 4), CITYSCAPES)
    assert scene.instances[0].disparity is None
    assert scene.instances[0].depth(CAMERA) is None
    assert scene.depth(CAMERA) is None


def test_depth_is_baseline_times_focal_length_over_disparity() -> None:
    scene = make_scene(PredictedScene(disparity=np.array([[4.0, 4.0], [0.0, 0.0]])), (2, 2), CITYSCAPES)
    depth = scene.depth(CAMERA)
    assert depth is not None
    assert depth.dtype == np.float32
    assert depth.tolist() == [[5.0, 5.0], [np.inf, np.inf]]
    assert SceneInstance(1, "car", CAR, 0.5, (0, 0, 1, 1), 1, 4.0).depth(CAMERA) == pytest.approx(5.0)
    assert SceneInstance(1, "car", CAR, 0.5, (0, 0, 1, 1), 1, 0.0).depth(CAMERA) is None
