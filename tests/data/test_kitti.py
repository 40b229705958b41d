import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from multitask.data.class_tables import table_of
from multitask.data.classes import IGNORE
from multitask.data.ids import read_instance_ids
from multitask.data.kitti import FOLDERS, Kitti, read_calibration
from multitask.data.layout import Camera, write_png
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from tests.cityscapes import CITYSCAPES, ID
from tests.layouts import CALIBRATION, kitti_layers, write_kitti
from tests.trees import KINDS

SIZE = (32, 64)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames with all kinds of labels, which no test may change."""
    return write_kitti(tmp_path_factory.mktemp("kitti"), range(10))


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Five frames, to damage."""
    return write_kitti(tmp_path / "kitti", range(5))


def message(root: Path, split: str = "train") -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        Kitti(root, split, SIZE, CITYSCAPES)
    return str(caught.value)


def test_frame_is_read_in_the_coding_of_cityscapes(shared: Path) -> None:
    frames = Kitti(shared, "train", SIZE, CITYSCAPES)
    sample, layers = frames[2], kitti_layers(2)
    assert sample.name == "000002_10"
    types = {kind: getattr(sample, kind).dtype for kind in layers}
    assert types == {"image": np.uint8, "class_ids": np.uint8, "instance_ids": np.int32, "disparity": np.float32}
    for kind, layer in layers.items():
        np.testing.assert_array_equal(getattr(sample, kind), layer)
    assert sample.camera == Camera(pytest.approx(0.54), 70.0, 71.0, 31.5, 15.5)


def test_disparity_has_no_minus_one(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, range(1))
    coded = np.zeros(SIZE, dtype=np.uint16)
    coded[0, :4] = [1, 256, 512, 65535]
    write_png(root / "training/disp_occ_0/000000_10.png", coded)
    disparity = Kitti(root, "train", SIZE, CITYSCAPES)[0].disparity
    assert disparity is not None
    assert disparity[0, :4].tolist() == [1 / 256, 1, 2, 65535 / 256]
    assert np.isnan(disparity).sum() == 32 * 64 - 4


def test_instance_ids_by_hand() -> None:
    class_ids = np.array([[ID["car"], ID["car"], ID["building"], ID["road"], ID["caravan"], ID["unlabeled"]]])
    numbers = np.array([[7, 0, 4, 0, 255, 1]])
    coded = (class_ids * 256 + numbers).astype(np.uint16)
    found = read_instance_ids(Path("a.png"), coded, CITYSCAPES, 256)
    assert found.tolist() == [[26007, 26, 11, 7, 29255, 0]]
    assert found.dtype == np.int32


def test_stuff_and_groups_have_no_vectors(shared: Path) -> None:
    sample = Kitti(shared, "val", SIZE, CITYSCAPES)[0]
    assert sample.instance_ids is not None
    _, valid = Instance(CITYSCAPES).encode(sample)
    assert valid.numpy().tolist() == (sample.instance_ids >= 1000).tolist()
    assert valid.any()
    assert Depth(CITYSCAPES).encode(sample).valid.any()


def test_splits_are_fixed_by_the_frame_s_number(shared: Path, tmp_path: Path) -> None:
    assert Kitti(shared, "val", SIZE, CITYSCAPES).names == ["000004_10", "000009_10"]
    assert Kitti(shared, "train", SIZE, CITYSCAPES).names == [f"{number:06}_10" for number in (0, 1, 2, 3, 5, 6, 7, 8)]
    part = write_kitti(tmp_path, range(3, 10, 3), kinds=("image", "class_ids"))
    assert Kitti(part, "val", SIZE, CITYSCAPES).names == ["000009_10"]
    assert Kitti.splits(part) == ["train", "val"]


def test_all_two_hundred_frames_are_in_one_split_each(tmp_path: Path) -> None:
    for number in range(200):
        for kind in ("image", "class_ids"):
            path = tmp_path / "training" / FOLDERS[kind] / f"{number:06}_10.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    train, val = (Kitti(tmp_path, split, SIZE, CITYSCAPES).names for split in ("train", "val"))
    assert (len(train), len(val)) == (160, 40)
    assert val == [f"{number:06}_10" for number in range(4, 200, 5)]
    assert not set(train) & set(val)


def test_test_split_has_pictures_alone(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"testing.image_2: no such folder; needed split 'test', found \['train', 'v"):
        Kitti(shared, "test", SIZE, CITYSCAPES)
    root = write_kitti(tmp_path, range(6), kinds=("image", "camera"), top="testing")
    frames = Kitti(root, "test", SIZE, CITYSCAPES)
    assert len(frames) == 6
    assert frames.kinds == {"camera"}
    assert frames[4].class_ids is None


def test_frames_of_other_sizes_are_brought_to_one(tmp_path: Path) -> None:
    root = write_kitti(write_kitti(tmp_path, range(1), size=(32, 64)), range(1, 2), size=(30, 60))
    frames = Kitti(root, "train", SIZE, CITYSCAPES)
    frames.check_headers()
    assert {frames[index].image.shape for index in range(2)} == {(32, 64, 3)}
    assert [frames.source_size(name) for name in frames.names] == [(32, 64), (30, 60)]
    camera = frames[1].camera
    assert camera is not None
    assert camera.fx == pytest.approx(70 * 64 / 60)


@pytest.mark.parametrize("missing", KINDS[1:])
def test_kind_missing_as_a_whole_is_none(kitti: Path, missing: str) -> None:
    shutil.rmtree(kitti / "training" / FOLDERS[missing])
    for split in ("train", "val"):
        frames = Kitti(kitti, split, SIZE, CITYSCAPES)
        frames.check_headers()
        assert frames.kinds == set(KINDS[1:]) - {missing}
        assert getattr(frames[0], missing) is None
        assert frames.lacking(missing) == [f"data.root={kitti}"]


def test_no_label_folder_at_all_names_those_that_were_sought(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, range(5), kinds=("image", "camera"))
    error = message(root)
    assert f"data.root={root}: needed labels in " in error
    for folder in ("semantic", "instance", "disp_occ_0"):
        assert str(root / "training" / folder) in error


def test_missing_picture_folder_is_named(kitti: Path) -> None:
    shutil.rmtree(kitti / "training/image_2")
    assert f"{kitti / 'training/image_2'}: no such folder; needed split 'train', found no split" in message(kitti)


def test_folder_without_pictures_is_named(kitti: Path) -> None:
    for path in (kitti / "training/image_2").glob("*_10.png"):
        path.unlink()
    assert f"{kitti / 'training/image_2'}: needed images NNNNNN_10.png, found none" in message(kitti)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_single_missing_file_names_itself_and_its_picture(kitti: Path, kind: str) -> None:
    path = Kitti(kitti, "train", SIZE, CITYSCAPES).path(kind, "000001_10")
    path.unlink()
    error = message(kitti)
    assert error.startswith(f"{path}: no such file, but ")
    assert "000001_10.png needs it" in error


def test_unknown_ids_name_the_file(kitti: Path) -> None:
    path = kitti / "training/semantic/000000_10.png"
    write_png(path, np.full(SIZE, 34, dtype=np.uint8))
    with pytest.raises(ValueError, match=rf"{path}: needed ids of the class table cityscapes, found 34 in 2048 px"):
        Kitti(kitti, "train", SIZE, CITYSCAPES)[0]
    write_kitti(kitti, range(1))
    path = kitti / "training/instance/000000_10.png"
    write_png(path, np.full(SIZE, 34 * 256 + 1, dtype=np.uint16))
    with pytest.raises(ValueError, match=rf"{path}: needed id \* 256 \+ k .* table cityscapes, found 8705 in 2048 px"):
        Kitti(kitti, "train", SIZE, CITYSCAPES)[0]


@pytest.mark.parametrize("has_255", [True, False])
def test_255_is_no_class_where_the_table_has_another_one_at_0(kitti: Path, has_255: bool) -> None:
    classes = [{"name": "box", "id": 0, "instances": True}, {"name": "floor", "id": 3}]
    rest = [{"name": "rest", "id": 255, "ignored": True}] if has_255 else []
    table = table_of({"classes": [*classes, *rest]}, "mine")
    box, floor = table.class_id["box"], table.class_id["floor"]
    layers = {"semantic": np.full(SIZE, 3, np.uint8), "instance": np.full(SIZE, 3 * 256 + 9, np.uint16)}
    layers["semantic"][:2] = [[0], [255]]
    layers["instance"][:2] = [[4], [255 * 256 + 1]]
    for kind, layer in layers.items():
        write_png(kitti / f"training/{kind}/000000_10.png", layer)
    sample = Kitti(kitti, "train", SIZE, table)[0]
    assert sample.class_ids is not None
    assert sample.instance_ids is not None
    assert sample.class_ids[:3, 0].tolist() == [box, 0, floor]
    assert sample.instance_ids[:3, 0].tolist() == [box * 1000 + 4, 0, floor]
    assert (sample.class_ids.dtype, sample.instance_ids.dtype) == (np.uint8, np.int32)
    assert table.train_ids[0] == IGNORE


def test_licence_plates_are_unlabeled(kitti: Path) -> None:
    for kind, value in (("semantic", np.uint8(255)), ("instance", np.uint16(255 * 256 + 1))):
        write_png(kitti / f"training/{kind}/000000_10.png", np.full(SIZE, value))
    sample = Kitti(kitti, "train", SIZE, CITYSCAPES)[0]
    assert sample.class_ids is not None
    assert sample.instance_ids is not None
    assert not sample.class_ids.any()
    assert not sample.instance_ids.any()


# Calibration


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in CALIBRATION
    path = tmp_path / "000000.txt"
    path.write_text(CALIBRATION.replace(old, new))
    return path


def test_calibration_by_hand(tmp_path: Path) -> None:
    """The numbers of the recording of 26 September 2011."""
    row = "7.215377e+02 0 6.095593e+02 {} 0 7.215377e+02 1.728540e+02 {} 0 0 1 {}"
    path = tmp_path / "000000.txt"
    path.write_text(
        f"P_rect_03: {row.format('-3.395242e+02', '2.199936e+00', '2.729905e-03')}\n"
        f"P_rect_02: {row.format('4.485728e+01', '2.163791e-01', '2.745884e-03')}\n"
    )
    camera = read_calibration(path)
    assert (camera.fx, camera.fy, camera.u0, camera.v0) == (721.5377, 721.5377, 609.5593, 172.854)
    assert camera.baseline == pytest.approx(0.5327, abs=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("P_rect_02", "P_rect_00", "needed 12 numbers at P_rect_02, found 0 words"),
        ("P_rect_03", "P_rect_00", "needed 12 numbers at P_rect_03, found 0 words"),
        ("-30.8", "", "needed 12 numbers at P_rect_03, found 11 words"),
        ("-30.8", "wide", "needed 12 numbers at P_rect_03, found 12 words"),
        ("-30.8", "nan", "needed 12 numbers at P_rect_03, found 12 words"),
        ("-30.8", "30.8", "needed baseline > 0, found -0.34"),
        ("P_rect_02: 7.0e+01", "P_rect_02: -7.0e+01", "needed fx > 0, found -70.0"),
        ("7.1e+01", "0", "needed fy > 0, found 0.0"),
    ],
)
def test_calibration_that_is_not_one_names_file_and_number(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: {re.escape(words)}"):
        read_calibration(path)


def test_calibration_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "000000.txt"
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: no such file"):
        read_calibration(path)
    path.write_bytes(b"P_rect_02: \xff\xfe")
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: not a text file"):
        read_calibration(path)


def test_damaged_calibration_is_found_before_any_work(kitti: Path) -> None:
    path = kitti / "training/calib_cam_to_cam/000003.txt"
    path.write_text("")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        Kitti(kitti, "train", SIZE, CITYSCAPES).check_headers()
