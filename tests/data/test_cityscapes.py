import logging
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitask.data.cityscapes import Cityscapes
from multitask.data.class_tables import table_of
from multitask.data.layout import SUFFIX, file_path, read_camera, read_png, write_png
from multitask.data.sample import Sample
from multitask.data.split import check_size
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from tests.cityscapes import CITYSCAPES, ID
from tests.reference import cell_medians
from tests.trees import CAMERA, KINDS, random_layers, write_frame, write_tree

SIZE = (32, 64)
LAYERS = ("image", "class_ids", "instance_ids", "disparity")


def first_file(root: Path, kind: str, split: str = "train") -> Path:
    return file_path(root, kind, split, Cityscapes(root, split, SIZE, CITYSCAPES).names[0])


def message(root: Path, split: str = "train") -> str:
    """The error of opening the data set."""
    with pytest.raises(ValueError, match=r".") as caught:
        Cityscapes(root, split, SIZE, CITYSCAPES)
    return str(caught.value)


def one_frame(root: Path, **layers: np.ndarray) -> Sample:
    """A data set of one frame with some layers replaced, read."""
    write_frame(root, "train", "ulm_000000_000019", random_layers(np.random.default_rng(0)) | layers)
    return Cityscapes(root, "train", SIZE, CITYSCAPES)[0]


# Reading


def test_frame_is_read_as_it_was_written(tmp_path: Path) -> None:
    layers = random_layers(np.random.default_rng(5))
    write_frame(tmp_path, "train", "bad_honnef_000000_000019", layers)
    sample = Cityscapes(tmp_path, "train", SIZE, CITYSCAPES)[0]
    assert sample.name == "bad_honnef_000000_000019"
    assert sample.camera == CAMERA
    types = {kind: getattr(sample, kind).dtype for kind in LAYERS}
    assert types == {"image": np.uint8, "class_ids": np.uint8, "instance_ids": np.int32, "disparity": np.float32}
    for kind in LAYERS:
        np.testing.assert_array_equal(getattr(sample, kind), layers[kind])


@pytest.mark.parametrize(("measured", "expected"), [(4.0, True), (0.0, True), (np.nan, False)])
def test_frame_keeps_its_only_measurement_when_it_is_made_smaller(
    tmp_path: Path, measured: float, expected: bool
) -> None:
    layers = random_layers(np.random.default_rng(5)) | {"disparity": np.full(SIZE, np.nan)}
    layers["disparity"][0, 0] = measured
    layers["class_ids"][:4] = layers["instance_ids"][:4] = ID["sky"]
    write_frame(tmp_path, "train", "ulm_000000_000019", layers)
    sample = Cityscapes(tmp_path, "train", (16, 32), CITYSCAPES)[0]
    assert np.isfinite(sample.disparity).sum() == expected
    assert sample.measured is expected
    assert Depth(CITYSCAPES).encode(sample).valid[:2].all() == expected


def test_frames_come_in_the_order_of_their_names(shared_tree: Path) -> None:
    frames = Cityscapes(str(shared_tree), "train", SIZE, CITYSCAPES)
    assert len(frames) == 6
    assert frames.names == sorted(frames.names)
    assert [frames[index].name for index in range(6)] == frames.names


def test_splits_do_not_mix(shared_tree: Path) -> None:
    train, val = (set(Cityscapes(shared_tree, split, SIZE, CITYSCAPES).names) for split in ("train", "val"))
    assert not train & val


def test_files_of_other_kinds_are_no_frames(tree: Path) -> None:
    city = first_file(tree, "image").parent
    (city / "notes.txt").touch()
    (city / (first_file(tree, "image").name + ".part")).touch()
    (tree / "leftImg8bit" / "train" / "README.md").touch()
    assert len(Cityscapes(tree, "train", SIZE, CITYSCAPES)) == 3


@pytest.mark.parametrize("missing", [(kind,) for kind in KINDS[1:]] + [KINDS[1:], ("class_ids", "disparity")])
def test_kind_missing_for_the_whole_split_is_none(tmp_path: Path, missing: tuple[str, ...]) -> None:
    kinds = tuple(kind for kind in KINDS if kind not in missing)
    frames = Cityscapes(write_tree(tmp_path, {"train": 2}, kinds), "train", SIZE, CITYSCAPES)
    frames.check_headers()
    sample = frames[1]
    for kind in KINDS:
        assert frames.has(kind) == (kind in kinds)
        assert (getattr(sample, kind) is None) == (kind in missing)


def test_kind_missing_in_one_split_stays_in_the_other(tree: Path) -> None:
    shutil.rmtree(tree / "gtFine" / "val")
    assert Cityscapes(tree, "val", SIZE, CITYSCAPES).kinds == {"disparity", "camera"}
    assert Cityscapes(tree, "train", SIZE, CITYSCAPES).kinds == set(KINDS[1:])


def test_placeholders_of_the_test_split_are_no_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = write_tree(tmp_path, {"train": 1, "test": 4})
    assert Cityscapes(tree, "test", SIZE, CITYSCAPES).kinds == set(KINDS[1:]), "labels that are there count"
    for split in ("train", "test"):
        for kind, dtype in (("class_ids", np.uint8), ("instance_ids", np.uint16)):
            for path in (tree / "gtFine" / split).glob(f"*/*{SUFFIX[kind][1]}"):
                ids = np.random.default_rng(0).integers(0, 4, (32, 64))  # unlabelled, ego vehicle, border, out of roi
                write_png(path, ids.astype(dtype))
    with caplog.at_level(logging.INFO):
        frames = Cityscapes(tree, "test", SIZE, CITYSCAPES)
    assert frames.kinds == {"disparity", "camera"}
    assert frames[0].class_ids is None
    measured, name = frames[0].disparity, frames.names[0]
    unseen = Cityscapes(tree, "test", SIZE, CITYSCAPES, strict=False).read("class_ids", name) > 0
    before = Cityscapes(tree, "test", SIZE, CITYSCAPES, strict=False).read("disparity", name)
    assert measured is not None
    assert np.isnan(frames.read("disparity", name)[unseen]).all(), "no view of the scene"
    np.testing.assert_array_equal(frames.read("disparity", name)[~unseen], before[~unseen])
    assert any("split 'test' are placeholders" in message for message in caplog.messages)
    assert Cityscapes(tree, "test", SIZE, CITYSCAPES, strict=False).kinds == set(KINDS[1:]), "a check reads every file"
    assert Cityscapes(tree, "train", SIZE, CITYSCAPES).has("class_ids")


def test_reading_at_another_size_scales_disparity_and_camera(tmp_path: Path) -> None:
    layers = random_layers(np.random.default_rng(0), (64, 128))
    write_frame(tmp_path, "train", "ulm_000000_000019", layers)
    sample = Cityscapes(tmp_path, "train", (32, 32), CITYSCAPES)[0]  # half as high, a quarter as wide
    rows, columns = np.ix_(np.arange(32) * 2 + 1, np.arange(32) * 4 + 2)  # the pixels that hold the centres
    for kind in ("class_ids", "instance_ids"):
        np.testing.assert_array_equal(getattr(sample, kind), layers[kind][rows, columns])
    medians = cell_medians(layers["disparity"], (32, 32))
    np.testing.assert_array_equal(sample.disparity, (medians / 4).astype(np.float32))
    assert sample.image.shape == (32, 32, 3)
    assert sample.camera == CAMERA.scaled(1 / 4, 1 / 2)


# A tree that is not what it should be


def test_missing_root_is_named(tmp_path: Path) -> None:
    assert f"data.root={tmp_path / 'none'}" in message(tmp_path / "none")
    (tmp_path / "file").touch()
    assert f"data.root={tmp_path / 'file'}" in message(tmp_path / "file")


def test_missing_split_lists_those_that_are_there(tree: Path) -> None:
    error = message(tree, "test")
    assert str(tree / "leftImg8bit" / "test") in error
    assert "['train', 'val']" in error


def test_root_without_images_folder_says_no_split(tmp_path: Path) -> None:
    assert "no split" in message(tmp_path)


@pytest.mark.parametrize("content", ["", "ulm/", "ulm/a.jpg", "ulm_000000_000019_leftImg8bit.png"])
def test_folder_with_no_images_is_named(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "leftImg8bit" / "train"
    folder.mkdir(parents=True)
    if content.endswith("/"):
        (folder / content).mkdir()
    elif content:
        (folder / content).parent.mkdir(exist_ok=True)
        (folder / content).touch()
    error = message(tmp_path)
    assert str(folder) in error
    assert "found none" in error


def test_image_in_the_folder_of_another_city_is_named(tree: Path) -> None:
    path = first_file(tree, "image")
    (path.parent.parent / "ulm").mkdir()
    path.rename(path.parent.parent / "ulm" / path.name)
    assert path.name in message(tree)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_image_without_its_file_names_both(tree: Path, kind: str) -> None:
    image, path = first_file(tree, "image"), first_file(tree, kind)
    path.unlink()
    error = message(tree)
    assert str(path) in error
    assert str(image) in error


@pytest.mark.parametrize("kind", KINDS[1:])
def test_label_in_the_folder_of_another_city_is_named(tree: Path, kind: str) -> None:
    path = first_file(tree, kind)
    (path.parent.parent / "ulm").mkdir()
    path.rename(path.parent.parent / "ulm" / path.name)
    assert str(path) in message(tree)


def test_labels_without_an_image_do_no_harm(tree: Path) -> None:
    path = first_file(tree, "image")
    path.unlink()
    assert len(Cityscapes(tree, "train", SIZE, CITYSCAPES)) == 2


@pytest.mark.parametrize("size", [None, 128, [128], [128, 256, 3], [0, 256], [128, -1], [1.5, 2], "ab", ["128", "256"]])
def test_size_that_makes_no_sense_names_the_key(shared_tree: Path, size: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.image_size: needed two positive whole numbers"):
        Cityscapes(shared_tree, "train", size, CITYSCAPES)
    with pytest.raises(ValueError, match=r"some\.key: .*found " + re.escape(repr(size))):
        check_size("some.key", size)


# Files that are not what they should be


def assert_found(root: Path, path: Path, *words: str, by_header: bool) -> None:
    """Reading names the file, and so does the check of the headers where the header tells."""
    frames = Cityscapes(root, "train", SIZE, CITYSCAPES)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        frames[0]
    errors = [str(caught.value)]
    if by_header:
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            frames.check_headers()
        errors.append(str(caught.value))
    else:
        frames.check_headers()
    for word in words:
        assert all(word in error for error in errors)


@pytest.mark.parametrize("kind", LAYERS)
def test_zero_byte_file_is_found_by_its_header(tree: Path, kind: str) -> None:
    path = first_file(tree, kind)
    path.write_bytes(b"")
    assert_found(tree, path, "0 bytes", by_header=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_truncated_file_is_found_by_its_header(tree: Path, kind: str) -> None:
    path = first_file(tree, kind)
    path.write_bytes(path.read_bytes()[:-30])
    assert_found(tree, path, by_header=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_header_check_decodes_nothing(tree: Path, kind: str) -> None:
    path = first_file(tree, kind)
    whole = path.read_bytes()
    start = whole.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", whole, start - 8)
    path.write_bytes(whole[:start] + b"\xaa" * length + whole[start + length :])
    assert_found(tree, path, by_header=False)


@pytest.mark.parametrize("kind", LAYERS[1:])
@pytest.mark.parametrize("size", [(16, 32), (64, 32), (32, 63)])
def test_labels_of_another_size_name_both_files(tree: Path, kind: str, size: tuple[int, int]) -> None:
    path = first_file(tree, kind)
    write_png(path, np.zeros(size, dtype=np.uint8 if kind == "class_ids" else np.uint16))
    image = str(first_file(tree, "image"))
    assert_found(tree, path, image, "32 x 64", f"{size[0]} x {size[1]}", by_header=True)


@pytest.mark.parametrize(
    ("kind", "mode", "needed"),
    [
        ("image", "L", "8-bit RGB"),
        ("image", "I;16", "8-bit RGB"),
        ("class_ids", "RGB", "8-bit single-channel"),
        ("class_ids", "I;16", "8-bit single-channel"),
        ("instance_ids", "L", "16-bit single-channel"),
        ("instance_ids", "RGB", "16-bit single-channel"),
        ("disparity", "L", "16-bit single-channel"),
        ("disparity", "RGBA", "16-bit single-channel"),
    ],
)
def test_wrong_mode_is_found_by_the_header(tree: Path, kind: str, mode: str, needed: str) -> None:
    path = first_file(tree, kind)
    Image.new(mode, (64, 32), 1 if mode in ("L", "I;16") else None).save(path)
    assert_found(tree, path, needed, by_header=True)


def test_header_check_reaches_the_last_frame(tree: Path) -> None:
    frames = Cityscapes(tree, "train", SIZE, CITYSCAPES)
    path = frames.path("disparity", frames.names[-1])
    Image.new("L", (64, 32), 1).save(path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        frames.check_headers()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"intrinsic": {"fx": -1}}'])
def test_camera_file_that_is_damaged_is_found_before_any_work(tree: Path, content: str) -> None:
    path = first_file(tree, "camera")
    path.write_text(content)
    assert_found(tree, path, by_header=True)


@pytest.mark.parametrize("unknown", [34, 128, 255])
def test_unknown_class_id_is_named_with_its_file(tmp_path: Path, unknown: int) -> None:
    class_ids = np.full(SIZE, ID["road"], dtype=np.uint8)
    class_ids[31, 63] = unknown
    path = file_path(tmp_path, "class_ids", "train", "ulm_000000_000019")
    with pytest.raises(ValueError, match=rf"{path}: needed ids of .* cityscapes, found {unknown} in 1 px"):
        one_frame(tmp_path, class_ids=class_ids)


@pytest.mark.parametrize("unknown", [34, 255, 999, 34000, 65535])
def test_unknown_instance_id_is_named_with_its_file(tmp_path: Path, unknown: int) -> None:
    instance_ids = np.full(SIZE, ID["road"])
    instance_ids[0, 0] = unknown
    path = file_path(tmp_path, "instance_ids", "train", "ulm_000000_000019")
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*found {unknown}"):
        one_frame(tmp_path, instance_ids=instance_ids)


def test_every_known_id_is_accepted(tmp_path: Path) -> None:
    instance_ids = np.arange(32 * 64).reshape(SIZE) * 16
    instance_ids[(instance_ids > 33) & (instance_ids < 1000)] = 33
    instance_ids[0, :3] = [0, 1000, 33999]
    instance_ids[31, 30:] = np.arange(34)
    class_ids = np.where(instance_ids < 1000, instance_ids, instance_ids // 1000)
    sample = one_frame(tmp_path, class_ids=class_ids, instance_ids=instance_ids)
    assert np.array_equal(sample.class_ids, class_ids)
    # Of a class without instances the number is passed over.
    assert np.array_equal(sample.instance_ids, np.where(CITYSCAPES.has_instances[class_ids], instance_ids, class_ids))


def test_disparity_all_invalid_is_no_error_and_has_no_valid_pixel(tmp_path: Path) -> None:
    road = np.full(SIZE, ID["road"])
    sample = one_frame(tmp_path, disparity=np.full(SIZE, np.nan), class_ids=road, instance_ids=road)
    assert np.isnan(sample.disparity).all()
    value, valid = Depth(CITYSCAPES).encode(sample)
    assert not valid.any()
    assert value.isfinite().all()


@pytest.mark.parametrize("bare", ["road", "car", "unlabeled", "ego vehicle"])
def test_frame_with_no_instance_is_no_error_and_has_no_valid_pixel(tmp_path: Path, bare: str) -> None:
    ids = np.full(SIZE, ID[bare])
    sample = one_frame(tmp_path, class_ids=ids, instance_ids=ids)
    value, valid = Instance(CITYSCAPES).encode(sample)
    assert not valid.any()
    assert value.isfinite().all()


def test_path_is_where_the_reader_looks(shared_tree: Path) -> None:
    frames = Cityscapes(shared_tree, "val", SIZE, CITYSCAPES)
    name = frames.names[-1]
    assert {kind: frames.path(kind, name).is_file() for kind in SUFFIX} == dict.fromkeys(SUFFIX, True)
    assert np.array_equal(read_png(frames.path("image", name), "image"), frames[len(frames) - 1].image)
    assert read_camera(frames.path("camera", name)) == frames[len(frames) - 1].camera


@pytest.mark.parametrize(("id", "refused"), [(0, True), (1, False), (65, False), (66, True)])
def test_class_whose_instances_the_coding_cannot_say_is_refused(tmp_path: Path, id: int, refused: bool) -> None:
    floor = {"name": "floor", "id": 7}
    table = table_of({"name": "mine", "classes": [floor, {"name": "box", "id": id}]}, "")
    with_instances = table_of({"name": "mine", "classes": [floor, {"name": "box", "id": id, "instances": True}]}, "")
    ids = np.full(SIZE, 7)
    layers = {"image": np.zeros((*SIZE, 3)), "class_ids": ids, "instance_ids": ids}
    write_frame(tmp_path, "train", "ulm_000000_000019", layers)
    Cityscapes(tmp_path, "train", SIZE, table)
    if not refused:
        Cityscapes(tmp_path, "train", SIZE, with_instances)
        return
    needed = rf"class 'box' of mine: needed an id from 1 to 65, since .* id \* 1000 \+ k in 16 bits, found {id}$"
    with pytest.raises(ValueError, match=rf"^data\.root={re.escape(str(tmp_path))}: {needed}"):
        Cityscapes(tmp_path, "train", SIZE, with_instances)
    shutil.rmtree(tmp_path / "gtFine")  # without instance files there is nothing to tell
    write_frame(tmp_path, "train", "ulm_000000_000019", {"class_ids": ids})
    Cityscapes(tmp_path, "train", SIZE, with_instances)
