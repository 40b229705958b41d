import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from multitask.data.classes import IGNORE
from multitask.data.formats import FORMATS
from multitask.data.layout import write_png
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES, TRAIN_ID
from tests.layouts import CAMVID, camvid_classes, write_camvid

SIZE = (24, 32)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid", {"train": 3, "val": 2})


def test_classes_are_mapped_as_data_readme_says() -> None:
    """Train ids in the order of CamVid's numbers."""
    expected = [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 12, IGNORE]
    class_ids = CAMVID.class_ids[CAMVID.source.class_ids[:12]]
    assert TRAIN_ID[class_ids].tolist() == expected


def test_own_classes_are_the_numbers_in_the_files(camvid: Path) -> None:
    frames = FORMATS["camvid"](camvid, "train", SIZE, CAMVID.source)
    numbers = camvid_classes(1)
    value, valid = Semantic(frames.classes).encode(frames[1])
    np.testing.assert_array_equal(valid.numpy(), numbers != 11)
    np.testing.assert_array_equal(value.numpy(), np.where(numbers == 11, IGNORE, numbers))


def test_frame_is_read_with_its_classes_alone(camvid: Path) -> None:
    frames = FORMATS["camvid"](camvid, "train", SIZE, CAMVID)
    sample = frames[1]
    assert sample.name == "0000TP_000001"
    numbers = camvid_classes(1)
    ids = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 25, 0])
    assert sample.class_ids is not None
    np.testing.assert_array_equal(sample.class_ids, ids[numbers])
    assert (sample.instance_ids, sample.disparity, sample.camera) == (None, None, None)
    assert frames.kinds == {"class_ids"}
    assert [frames.lacking(kind) for kind in ("class_ids", "disparity")] == [[], [f"data.root={camvid}"]]
    np.testing.assert_array_equal(Semantic(CITYSCAPES).encode(sample).valid.numpy(), numbers != 11)


def test_splits_are_those_that_are_there(camvid: Path) -> None:
    assert FORMATS["camvid"].splits(camvid) == ["train", "val"]
    assert (
        len(FORMATS["camvid"](camvid, "train", SIZE, CAMVID)),
        len(FORMATS["camvid"](camvid, "val", SIZE, CAMVID)),
    ) == (3, 2)
    with pytest.raises(ValueError, match=r"test: no such folder; needed split 'test', found \['train', 'val'\]"):
        FORMATS["camvid"](camvid, "test", SIZE, CAMVID)


def test_split_without_annotations_has_pictures_alone(tmp_path: Path) -> None:
    frames = FORMATS["camvid"](write_camvid(tmp_path, {"test": 2}, labels=False), "test", SIZE, CAMVID)
    assert frames.kinds == frozenset()
    assert frames[0].class_ids is None


def test_unknown_class_names_the_file(camvid: Path) -> None:
    path = camvid / "trainannot/0000TP_000000.png"
    write_png(path, np.full(SIZE, 12, dtype=np.uint8))
    with pytest.raises(ValueError, match=rf"{path}: needed ids of the class table camvid, found 12 in 768 px"):
        FORMATS["camvid"](camvid, "train", SIZE, CAMVID)[0]


def test_missing_annotation_names_both_files(camvid: Path) -> None:
    path = camvid / "trainannot/0000TP_000002.png"
    path.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: no such file, but .*train.0000TP_000002.png needs"):
        FORMATS["camvid"](camvid, "train", SIZE, CAMVID)


def test_annotation_of_another_size_names_both_files(camvid: Path) -> None:
    path = camvid / "valannot/0001TP_000000.png"
    write_png(path, np.zeros((12, 16), dtype=np.uint8))
    frames = FORMATS["camvid"](camvid, "val", SIZE, CAMVID)
    for read in (frames.check_headers, lambda: frames[0]):
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: needed 24 x 32 px, .*, found 12 x 16"):
            read()


def test_folder_without_pictures_is_named(camvid: Path) -> None:
    shutil.rmtree(camvid / "val")
    (camvid / "val").mkdir()
    with pytest.raises(
        ValueError, match=re.escape(f"{camvid / 'val'}: needed images {{split}}/{{name}}.png, found none")
    ):
        FORMATS["camvid"](camvid, "val", SIZE, CAMVID)
