import numpy as np
import pytest
from PIL import Image

from multitask.data.layout import Camera
from multitask.metrics import PredictedInstance, PredictedScene
from multitask.prediction.drawing import Shown, draw_panel, shown_size
from multitask.prediction.enlarge import Band
from multitask.prediction.scene import Scene, make_scene
from tests.cityscapes import CITYSCAPES
from tests.prediction.made import CAR, photo, street

CAMERA = Camera(baseline=0.2, fx=100.0, fy=100.0, u0=40.0, v0=20.0)


def panel(scene: Scene, title: str = "a.png", camera: Camera | None = None) -> np.ndarray:
    picture = Image.fromarray(photo(scene.size)).resize(shown_size(scene.size))
    shown = Shown(scene.size, picture, CITYSCAPES)
    shown.add(Band(0, scene.class_ids, scene.instance_ids, scene.disparity))
    return draw_panel(title, shown, scene.instances, camera)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((1024, 2048), (760, 380)), ((40, 80), (760, 380)), ((3000, 2000), (287, 430)), ((8, 400), (760, 15))],
)
def test_shown_size_fits_a_screen_and_keeps_the_shape(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_size(size) == shown


def test_panel_is_two_by_two_with_the_input_at_the_top_left() -> None:
    drawn = panel(street())
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] == 2 * 760 + 4
    expected = np.asarray(Image.fromarray(photo((40, 80))).resize((760, 380)))
    np.testing.assert_array_equal(drawn[18 : 18 + 380, :760], expected)


def test_panel_blends_classes_over_the_picture() -> None:
    classes = panel(street())[18 : 18 + 380, 764:]
    picture = np.asarray(Image.fromarray(photo((40, 80))).resize((760, 380))).astype(float)
    # Half the picture and half the official colour, of the road at the top left and of the person.
    for row, column, color in ((5, 5, (128, 64, 128)), (100, 340, (220, 20, 60))):
        expected = 0.45 * picture[row, column] + 0.55 * np.array(color)
        np.testing.assert_allclose(classes[row, column], expected, atol=1.5)


def test_panel_legend_shows_the_classes_that_occur_and_no_others() -> None:
    strip = panel(street())[18 + 380 : 18 + 380 + 30, 764:].reshape(-1, 3)
    colors = {tuple(color) for color in np.unique(strip, axis=0).tolist()}
    assert {(128, 64, 128), (0, 0, 142), (220, 20, 60)} <= colors
    assert (70, 130, 180) not in colors, "no sky in the picture"


def test_panel_outlines_instances_and_leaves_the_rest_untinted() -> None:
    below = panel(street())
    top = (below.shape[0] + 4) // 2 + 18
    instances = below[top : top + 380, :760].astype(int)
    picture = np.asarray(Image.fromarray(photo((40, 80))).resize((760, 380)))
    np.testing.assert_allclose(instances[375, 5], picture[375, 5] * 0.8, atol=1)
    # The first car is columns 40 to 75 of 80: its left edge is at 380, its tint inside.
    edge, inside = instances[250, 381], instances[250, 420]
    assert np.abs(edge - instances[250, 375]).sum() > 100
    assert np.abs(inside - picture[250, 420] * 0.56 - edge * 0.3).max() < 3


def test_panel_of_fewer_predictions_leaves_their_pictures_out() -> None:
    whole = panel(street()).shape
    scene = make_scene(PredictedScene(disparity=np.ones((40, 80))), (40, 80), CITYSCAPES)
    alone = panel(scene)
    assert alone.shape[1] == whole[1]
    assert alone.shape[0] < whole[0] / 2 + 20
    assert (
        panel(make_scene(PredictedScene(np.zeros((40, 80), dtype=np.uint8)), (40, 80), CITYSCAPES)).shape[1] == whole[1]
    )


def test_panel_with_a_camera_has_a_scale_in_metres() -> None:
    scene = make_scene(PredictedScene(disparity=np.ones((40, 80))), (40, 80), CITYSCAPES)
    without, with_it = panel(scene), panel(scene, camera=CAMERA)
    assert with_it.shape[0] == without.shape[0] + 18
    # Only the line of metres is new.
    assert (with_it[-18:, 764:] < 128).any()
    np.testing.assert_array_equal(with_it[: without.shape[0] - 10], without[:-10])


def test_panel_colours_of_disparity_mean_the_same_in_every_picture() -> None:
    colors = []
    for size, level in (((40, 80), 2.0), ((400, 800), 20.0)):
        drawn = panel(make_scene(PredictedScene(disparity=np.full(size, level)), size, CITYSCAPES))
        colors.append(drawn[18 + 100, 764 + 300].tolist())
    assert colors[0] == colors[1]


@pytest.mark.parametrize("size", [(8, 8), (8, 120), (128, 8), (9, 300)])
def test_panel_of_any_shape_has_room_for_its_texts(size: tuple[int, int]) -> None:
    scene = make_scene(
        PredictedScene(
            np.arange(size[0] * size[1]).reshape(size).astype(np.uint8) % 19,
            np.ones(size, dtype=np.int32),
            [PredictedInstance(1, CAR, 0.5)],
            np.ones(size),
        ),
        size,
        CITYSCAPES,
    )
    drawn = panel(scene, "a name that is far too long for a picture of such a size, by any measure" * 3, CAMERA)
    assert 2 * 320 <= drawn.shape[1] <= 2 * 760 + 4
    assert drawn.shape[0] <= 2 * (430 + 18 + 10 * 20 + 8) + 4


def test_panel_of_many_instances_says_how_many_more_there_are() -> None:
    numbers = np.arange(64, dtype=np.int32).reshape(8, 8).repeat(5, 0).repeat(10, 1) + 1
    found = [PredictedInstance(k, CAR, 1 / k) for k in range(1, 65)]
    scene = make_scene(PredictedScene(np.full((40, 80), 13, dtype=np.uint8), numbers, found), (40, 80), CITYSCAPES)
    few = make_scene(
        PredictedScene(np.full((40, 80), 13, dtype=np.uint8), numbers * (numbers < 26), found), (40, 80), CITYSCAPES
    )
    assert len(scene.instances) == 64
    assert len(few.instances) == 25
    assert panel(scene).shape == panel(few).shape
