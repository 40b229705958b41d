"""Data sets in folders, read: the ready descriptions, each with a miniature, and other codings."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitask.data.census import take_census
from multitask.data.described import Described
from multitask.data.formats import layout_of, open_split
from multitask.data.layout import write_camera, write_png
from multitask.data.pictures import read_rgb, read_size
from multitask.data.split import LABEL_KINDS
from tests.described import CAMERA, Miniature, Write, data_of, opened

# Reading


def test_layers_are_those_that_were_written(miniature: Miniature) -> None:
    for split, expected in miniature.frames.items():
        frames = opened(miniature, split)
        frames.check_headers()
        assert frames.classes == miniature.classes
        assert frames.names == sorted(expected)
        for name, layers in expected.items():
            assert frames.kinds_of(name) - {"camera"} == set(layers) - {"image"}
            for kind in set(layers) & set(LABEL_KINDS):
                found = frames.read(kind, name)
                assert found.dtype == layers[kind].dtype
                np.testing.assert_allclose(found, layers[kind], rtol=1e-6)


def test_pictures_are_those_that_were_written(miniature: Miniature) -> None:
    for split, expected in miniature.frames.items():
        frames = opened(miniature, split)
        for name, layers in expected.items():
            found = frames.read("image", name)
            assert found.dtype == np.uint8
            if frames.path("image", name).suffix == ".png":
                np.testing.assert_array_equal(found, layers["image"])
            else:
                with Image.open(frames.path("image", name)) as image:
                    np.testing.assert_array_equal(found, np.array(image))
                assert np.abs(found.astype(int) - layers["image"]).mean() < 10  # of JPEG


def test_frames_are_handed_out_at_one_size(miniature: Miniature) -> None:
    split = next(iter(miniature.frames))
    frames = opened(miniature, split, image_size=[32, 64])
    sizes = {layers["image"].shape[:2] for layers in miniature.frames[split].values()}
    assert len(sizes) == 2
    for index in range(len(frames)):
        sample = frames[index]
        for layer in (sample.image, sample.class_ids, sample.instance_ids, sample.disparity):
            assert layer is None or layer.shape[:2] == (32, 64)


def test_crowds_are_bare_ids(write: Write) -> None:
    for name, class_name in (("coco_panoptic", "dog"), ("cityscapes_coarse", "person")):
        frames = opened(written := write(name), "train")
        class_id = written.classes.class_id[class_name]
        for index in range(len(frames)):
            ids = frames.read("instance_ids", frames.names[index])
            assert (ids == class_id).sum() == 8 * 12
            assert not (ids // 1000 == class_id).any()


def test_disparity_of_depth_is_its_inverse_times_the_product(write: Write) -> None:
    frames = opened(write("rgbd"), "train")
    for name in frames.names:
        with Image.open(frames.path("disparity", name)) as image:
            millimetres = np.array(image)
        found = frames.read("disparity", name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(found), millimetres == 0)
        assert 0.1 < (millimetres == 0).mean() < 0.3
        measured = millimetres > 0
        np.testing.assert_allclose(found[measured] * millimetres[measured], 38.9 * 1000, rtol=1e-5)


def test_camera_of_depth_gives_the_metres_back_at_any_size(write: Write) -> None:
    written = write("rgbd")
    frames = opened(written, "train", image_size=[16, 32])
    whole = opened(written, "train", image_size=[32, 64])
    place = next(i for i, layers in enumerate(written.frames["train"].values()) if layers["image"].shape[0] == 32)
    for sample in (frames[place], whole[place]):
        assert sample.camera is not None
        assert sample.disparity is not None
        metres = sample.camera.baseline * sample.camera.fx / sample.disparity
        assert 0.39 < np.nanmin(metres) < 1
        assert 9 < np.nanmax(metres) < 9.91
    camera = whole.read_camera(whole.names[place])
    assert (camera.baseline * camera.fx, camera.u0, camera.v0) == (pytest.approx(38.9), 31.5, 15.5)


def test_camera_file_beside_a_product_keeps_its_directions(write: Write) -> None:
    written = write("rgbd")
    for split, names in written.frames.items():
        for name in names:
            write_camera(written.root / split / f"camera/{name}.json", CAMERA)
    frames = opened(written, "train", camera="{split}/camera/{name}.json")
    assert frames.read_camera(frames.names[0]) == dataclasses.replace(CAMERA, baseline=38.9 / CAMERA.fx)
    assert frames.kinds_of(frames.names[0]) == {"class_ids", "disparity", "camera"}


def test_product_stands_in_where_no_camera_file_is_there(write: Write) -> None:
    frames = opened(write("rgbd"), "train", camera="{split}/camera/{name}.json")
    frames.check_headers()
    assert frames.read_camera(frames.names[0]).baseline == 1


def test_depth_takes_each_frame_s_own_camera(write: Write) -> None:
    written = write("rgbd")
    depth = {key: value for key, value in data_of(written)["depth"].items() if key != "focal_times_baseline"}
    keys = {"camera": "{split}/camera/{name}.json", "depth": depth}
    for index, name in enumerate(sorted(written.frames["train"])):
        camera = dataclasses.replace(CAMERA, baseline=0.1 * (index + 1))
        write_camera(written.root / f"train/camera/{name}.json", camera)
    frames = opened(written, "train", **keys)
    for index, name in enumerate(frames.names):
        factor = 0.1 * (index + 1) * CAMERA.fx / 38.9
        expected = written.frames["train"][name]["disparity"] * np.float32(factor)
        np.testing.assert_allclose(frames.read("disparity", name), expected, rtol=1e-5)
    path = frames.path("camera", frames.names[2])
    path.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: no such file, but .* needs it"):
        opened(written, "train", **keys)
    frames = opened(written, "train", **keys, partial=True)
    needed = rf"depth/0002\.png: needed {re.escape(str(path))}, since depth is learned as disparity; found none"
    for read in (frames.check_headers, lambda: frames[2]):
        with pytest.raises(ValueError, match=needed):
            read()


def test_partial_frames_have_the_labels_that_are_there(write: Write) -> None:
    written = write("rgbd")
    frames = opened(written, "train")
    frames.path("disparity", frames.names[1]).unlink()
    frames.path("class_ids", frames.names[2]).unlink()
    path = frames.path("class_ids", frames.names[2])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: no such file, but .*0002\.jpg needs it"):
        opened(written, "train")
    frames = opened(written, "train", partial=True, image_size=[32, 64])
    frames.check_headers()
    assert [frames.kinds_of(name) for name in frames.names] == [
        {"class_ids", "disparity", "camera"},
        {"class_ids"},
        {"disparity", "camera"},
        {"class_ids", "disparity", "camera"},
    ]
    assert frames[1].disparity is None
    assert frames[2].class_ids is None


def test_split_may_lack_a_kind_of_file(write: Write) -> None:
    written = write("cityscapes_coarse")
    assert opened(written, "train_extra").kinds == {"class_ids", "instance_ids"}
    assert opened(written, "train").kinds == {"class_ids", "instance_ids", "disparity", "camera"}
    assert opened(write("mapillary_vistas"), "testing").kinds == set()


def test_pattern_that_no_file_fits_is_named(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    opened(write("rgbd"), "val", class_ids="label/{split}/{name}.png")
    assert caplog.messages == ["data.class_ids.path=label/{split}/{name}.png: no file for the pictures of split 'val'"]


# Codings that no ready description has


@pytest.fixture
def numbered(tmp_path: Path) -> dict[str, Any]:
    """Two frames whose instances have numbers alone: of 8 bits, and of 16."""
    for name, dtype in (("a", np.uint8), ("b", np.uint16)):
        write_png(tmp_path / f"rgb/{name}.png", np.zeros((4, 6, 3), dtype=np.uint8))
        classes = np.full((4, 6), 2, dtype=np.uint8)
        classes[:, 3:] = 0
        classes[3] = 1
        write_png(tmp_path / f"ids/{name}.png", classes)
        numbers = np.zeros((4, 6), dtype=dtype)
        numbers[:2, :2] = 9
        numbers[1:, 2:5] = 200
        write_png(tmp_path / f"numbers/{name}.png", numbers)
    rows = [{"name": "floor", "id": 0}, {"name": "void", "id": 1, "ignored": True}]
    rows.append({"name": "box", "id": 2, "instances": True})
    return {
        "name": "mine",
        "format": "folder",
        "root": str(tmp_path),
        "classes": {"name": "mine", "classes": rows},
        "image": "rgb/{name}.png",
        "class_ids": "ids/{name}.png",
        "instance_ids": {"path": "numbers/{name}.png", "coding": "number"},
        "splits": {"train": 1.0},
        "image_size": [4, 6],
    }


def test_numbers_are_instances_of_the_class_files_classes(numbered: dict[str, Any]) -> None:
    frames = open_split(numbered, "train")
    frames.check_headers()
    void, floor, box = (frames.classes.class_id[name] for name in ("void", "floor", "box"))
    for index in range(2):
        found = frames[index].instance_ids
        assert found is not None
        for row, column in np.ndindex(4, 6):
            class_id = void if row == 3 else box if column < 3 else floor
            number = 1 if row < 2 and column < 2 else 2 if row >= 1 and 2 <= column < 5 else 0
            single = number and class_id == box
            assert found[row, column] == (1000 * class_id + number if single else class_id)


def test_numbers_may_be_indices_of_a_palette(numbered: dict[str, Any]) -> None:
    plain = open_split(numbered, "train")[0].instance_ids
    for kind in ("ids", "numbers"):
        path = Path(numbered["root"]) / kind / "a.png"
        with Image.open(path) as image:
            array = np.array(image)
        image = Image.fromarray(array)
        image.putpalette([number * 11 % 256 for number in range(3 * 201)])
        image.save(path)
    (Path(numbered["root"]) / "rgb/b.png").unlink()
    with pytest.raises(
        ValueError, match=r"ids/a\.png: needed 8-bit single-channel \(grey\), found 8-bit palette of col"
    ):
        open_split(numbered, "train")[0]
    palette = {"class_ids": {"path": "ids/{name}.png", "palette": True}}
    with pytest.raises(ValueError, match=r"numbers/a\.png: needed 8-bit single-channel \(grey\), found 8-bit palette"):
        open_split(numbered | palette, "train")[0]
    palette["instance_ids"] = numbered["instance_ids"] | {"palette": True}
    np.testing.assert_array_equal(open_split(numbered | palette, "train")[0].instance_ids, plain)


def test_numbers_without_classes_teach_nothing(numbered: dict[str, Any]) -> None:
    (Path(numbered["root"]) / "ids/a.png").unlink()
    frames = open_split(numbered | {"partial": True}, "train")
    frames.check_headers()
    assert [frames.kinds_of(name) for name in frames.names] == [set(), {"class_ids", "instance_ids"}]
    assert frames[0].instance_ids is None
    data = numbered | {"partial": True}
    assert take_census(layout_of(data), Path(numbered["root"]), "train", frames.classes, 1, partial=True).faults == []


def test_more_numbers_than_instance_ids_have_are_refused(numbered: dict[str, Any]) -> None:
    root = Path(numbered["root"])
    many = np.arange(1000, dtype=np.uint16).reshape(20, 50)
    for name in ("a", "b"):
        write_png(root / f"rgb/{name}.png", np.zeros((20, 50, 3), dtype=np.uint8))
        write_png(root / f"ids/{name}.png", np.full((20, 50), 2, dtype=np.uint8))
        write_png(root / f"numbers/{name}.png", many + (name == "b"))
    frames = open_split(numbered, "train")
    box = frames.classes.class_id["box"]
    assert isinstance(frames, Described)
    found = frames.read("instance_ids", "a")
    assert set(found.flat) == {box, *range(1000 * box + 1, 1000 * box + 1000)}
    with pytest.raises(ValueError, match=r"numbers/b\.png: needed at most 999 instances, found 1000"):
        frames.read("instance_ids", "b")


def test_ignored_classes_of_train_ids_have_no_instances(tmp_path: Path) -> None:
    ids = np.array([[33, 24, 29], [7, 24, 29]])
    train_ids = np.array([[18, 11, 255], [0, 11, 255]], dtype=np.uint8)
    write_png(tmp_path / "rgb/a.png", np.zeros((2, 3, 3), dtype=np.uint8))
    write_png(tmp_path / "ids/a.png", train_ids)
    write_png(tmp_path / "instances/a.png", np.where(ids == 7, 7, ids * 1000 + 4).astype(np.uint16))
    data = {
        "name": "mine",
        "format": "folder",
        "root": str(tmp_path),
        "classes": "cityscapes",
        "image": "rgb/{name}.png",
        "class_ids": {"path": "ids/{name}.png", "labels": "train_ids"},
        "instance_ids": {"path": "instances/{name}.png", "coding": "id*1000+k"},
        "splits": {"train": 1.0},
        "image_size": [2, 3],
    }
    sample = open_split(data, "train")[0]
    assert sample.class_ids is not None
    assert sample.instance_ids is not None
    assert sample.class_ids.tolist() == [[33, 24, 0], [7, 24, 0]]
    assert sample.instance_ids.tolist() == [[33004, 24004, 0], [7, 24004, 0]]


STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x),  # counterclockwise; to be turned clockwise
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: np.rot90(x, -1),
}
"""How each orientation of EXIF has an upright picture in its file."""


@pytest.mark.parametrize("orientation", list(STORED))
def test_photographs_are_upright(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8, :12] = 255  # white at the top left alone
    exif, path = Image.Exif(), tmp_path / "a.jpg"
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(path, exif=exif, quality=95)
    found = read_rgb(path)
    assert read_size(path) == found.shape[:2] == (16, 24)
    assert (np.abs(found.astype(int) - upright) < 40).all()
