import numpy as np
import pytest
from PIL import Image

from multitask.data.transforms import resize_nearest
from multitask.metrics import PredictedInstance, PredictedScene
from multitask.prediction import enlarge
from multitask.prediction.drawing import Shown
from multitask.prediction.enlarge import Enlargement, Medians
from multitask.prediction.scene import make_scene
from tests.cityscapes import CITYSCAPES
from tests.prediction.made import CAR, PERSON

SMALL = 23, 41
SIZES = [(23, 41), (46, 82), (100, 137), (61, 300), (11, 20), (9, 200)]


def random_scene(seed: int = 0) -> PredictedScene:
    """Of 23 x 41 px: 30 instances, whose pixels lie anywhere."""
    rng = np.random.default_rng(seed)
    instances = [
        PredictedInstance(number, CAR if number % 2 else PERSON, float(rng.random())) for number in range(1, 31)
    ]
    numbers = rng.integers(0, 31, SMALL).astype(np.int32)
    return PredictedScene(rng.integers(0, 19, SMALL).astype(np.uint8), numbers, instances, rng.normal(3, 4, SMALL))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("band", [1, 1000, 10**6])
def test_bands_make_up_the_whole_picture(size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enlarge, "_BAND", band)
    predicted = random_scene()
    assert predicted.instance_map is not None
    assert predicted.disparity is not None
    bands = list(Enlargement(predicted, size, CITYSCAPES).bands())
    assert [part.top for part in bands] == list(range(0, size[0], max(1, band // size[1])))
    values = np.maximum(predicted.disparity.astype(np.float32), 0) * np.float32(size[1] / SMALL[1])
    expected = np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
    found = np.concatenate([part.disparity for part in bands if part.disparity is not None])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    ids = np.concatenate([part.instance_ids for part in bands if part.instance_ids is not None])
    np.testing.assert_array_equal(ids > 0, resize_nearest(predicted.instance_map, size) > 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("band", [1, 1000, 10**6])
def test_outlines_and_medians_are_those_of_the_pixels(
    size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enlarge, "_BAND", band)
    scene = make_scene(random_scene(1), size, CITYSCAPES)
    assert scene.instance_ids is not None
    assert scene.disparity is not None
    assert [one.id for one in scene.instances] == list(range(1, scene.instance_ids.max() + 1))
    assert [one.confidence for one in scene.instances] == sorted((x.confidence for x in scene.instances), reverse=True)
    for one in scene.instances:
        rows, columns = np.nonzero(scene.instance_ids == one.id)
        assert one.area == len(rows)
        assert one.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert one.disparity == np.median(scene.disparity[rows, columns])


def test_instances_of_no_map_have_no_medians() -> None:
    scene = Enlargement(PredictedScene(np.zeros(SMALL, dtype=np.uint8)), (50, 90), CITYSCAPES)
    medians = Medians(scene.outlines)
    for band in scene.bands():
        assert (band.instance_ids, band.disparity) == (None, None)
        medians.add(band)
    assert medians.of_each() == []


@pytest.mark.parametrize("size", SIZES)
def test_what_is_shown_is_the_nearest_of_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enlarge, "_BAND", 700)
    predicted, picture = random_scene(2), Image.new("RGB", (70, 30))
    shown, scene = Shown(size, picture, CITYSCAPES), make_scene(predicted, size, CITYSCAPES)
    for band in Enlargement(predicted, size, CITYSCAPES).bands():
        shown.add(band)
    for name in ("class_ids", "instance_ids", "disparity"):
        np.testing.assert_array_equal(getattr(shown, name), resize_nearest(getattr(scene, name), (30, 70)))
    assert scene.class_ids is not None
    np.testing.assert_array_equal(shown.counts, np.bincount(scene.class_ids.ravel(), minlength=len(shown.counts)))
