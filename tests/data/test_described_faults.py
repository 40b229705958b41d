"""Data sets in folders, checked: what is counted, and which faults are named."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.data.census import take_census
from multitask.data.check import check
from multitask.data.formats import layout_of
from multitask.data.layout import write_png
from tests.described import WRITERS, Miniature, Write, data_of, faults, opened


def test_check_finds_no_fault_and_counts_what_was_written(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_of(miniature)
    for split, expected in miniature.frames.items():
        census = take_census(layout_of(data), miniature.root, split, miniature.classes, 1)
        assert census.faults == []
        assert census.num_frames == len(expected)
        kinds = Counter(kind for layers in expected.values() for kind in layers)
        assert {kind: number for kind, number in census.files.items() if kind != "camera"} == kinds
        cameras = len(expected) if miniature.name == "cityscapes_coarse" and split != "train_extra" else 0
        assert census.files["camera"] == cameras
        assert census.sizes == Counter(layers["image"].shape[:2] for layers in expected.values())
        pixels = Counter(
            class_id for layers in expected.values() for class_id in layers.get("class_ids", np.array([])).flat
        )
        assert {class_id: count for class_id, count in enumerate(census.pixels) if count} == pixels
        instances = Counter(
            int(number) // 1000
            for layers in expected.values()
            for number in set(layers.get("instance_ids", np.array([])).flat)
            if number >= 1000
        )
        assert {class_id: count for class_id, count in enumerate(census.instances) if count} == instances
        disparity = [layers["disparity"] for layers in expected.values() if "disparity" in layers]
        assert census.measured[0] == sum(int(np.isfinite(layer).sum()) for layer in disparity)


def test_check_of_a_ready_description_prints_every_split(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    for name in WRITERS:
        written = write(name)
        check({"data": data_of(written), "num_workers": 1})
        printed = capsys.readouterr().out
        assert printed.count("faults: 0") == len(written.frames)
        for split in written.frames:
            assert f"{written.root}, split {split}\n" in printed
            opened(written, split)  # which compares the numbers that were kept


def test_checked_numbers_are_those_of_the_files(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    written = write("rgbd")
    check({"data": data_of(written), "num_workers": 1})
    opened(written, "train")
    assert caplog.messages == []
    kept = json.loads((written.root / ".multitask_counts.json").read_text())
    assert kept == {
        split: dict.fromkeys(("image", "class_ids", "disparity"), n) for split, n in (("train", 4), ("val", 2))
    }


def test_what_is_described_otherwise_than_at_a_check_is_not_lost(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    written = write("rgbd")
    check({"data": data_of(written), "num_workers": 1})
    opened(written, "train", depth=None)
    shares = {"image": "train/rgb/{name}.*", "class_ids": None, "depth": None, "splits": {"train": 0.5, "val": 0.5}}
    assert len(opened(written, "train", **shares)) == 2
    assert caplog.messages == []
    next((written.root / "train/depth").iterdir()).unlink()
    opened(written, "train", partial=True)
    assert caplog.messages == [
        f"data.root={written.root}: split 'train' has lost files since it was checked: 3 of 4 disparity"
    ]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("bdd100k", "image", "not a readable picture"),
        ("bdd100k", "class_ids", "not a readable PNG"),
        ("mapillary_vistas", "class_ids", "not a readable PNG"),
        ("mapillary_vistas", "instance_ids", "not a readable PNG"),
        ("coco_panoptic", "class_ids", "not a readable PNG"),
        ("rgbd", "disparity", "not a readable PNG"),
        ("cityscapes_coarse", "camera", "not a JSON file"),
    ],
)
def test_check_names_a_file_that_was_cut(write: Write, name: str, kind: str, words: str) -> None:
    frames = opened(written := write(name), next(iter(written.frames)))
    path = frames.path(kind, frames.names[0])
    cut(path)
    found = faults(written, frames.split)
    assert found
    assert all(line.startswith(f"{path}: {words}") for line in found)


def test_check_names_a_palette_whose_check_sum_is_wrong(write: Write) -> None:
    frames = opened(written := write("mapillary_vistas"), "training")
    path = frames.path("class_ids", frames.names[0])
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 1
    path.write_bytes(content)
    (fault,) = faults(written, "training")
    assert fault.startswith(f"{path}: not a readable PNG")


@pytest.mark.parametrize("name", WRITERS)
def test_check_names_a_missing_partner(write: Write, name: str) -> None:
    frames = opened(written := write(name), next(iter(written.frames)))
    path = frames.path("class_ids", frames.names[1])
    path.unlink()
    found = faults(written, frames.split)
    assert found
    assert all(line == f"{path}: no such file" for line in found)
    if name != "coco_panoptic":  # whose instances are in the same file
        assert faults(written, frames.split, partial=True) == []


@pytest.mark.parametrize("name", WRITERS)
def test_check_names_a_label_of_no_picture(write: Write, name: str) -> None:
    frames = opened(written := write(name), next(iter(written.frames)))
    path = frames.path("class_ids", frames.names[0])
    stray = path.with_name(path.name.replace(path.stem[:4], "stray", 1))
    stray.write_bytes(path.read_bytes())
    found = faults(written, frames.split)
    assert set(found) == {f"{stray}: belongs to no image of split {frames.split!r}"}


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("bdd100k", 33, "needed train ids from 0 to 18, or 255, found 33 in 6 px"),
        ("mapillary_vistas", 66, "needed ids of the class table mapillary_vistas, found 66 in 6 px"),
        ("rgbd", 41, "needed ids of the class table nyu40, found 41 in 6 px"),
        ("cityscapes_coarse", 34, "needed ids of the class table cityscapes, found 34 in 6 px"),
    ],
)
def test_check_names_ids_that_the_table_lacks(write: Write, name: str, value: int, needed: str) -> None:
    frames = opened(written := write(name), next(iter(written.frames)))
    path = frames.path("class_ids", frames.names[0])
    with Image.open(path) as image:
        image.load()
    image.paste(value, (3, 4, 6, 6))
    image.save(path)
    assert faults(written, frames.split) == [f"{path}: {needed}"]
    with pytest.raises(ValueError, match=re.escape(needed)):
        frames[0]


def test_instances_of_a_class_that_the_table_lacks_are_refused(write: Write) -> None:
    for name, value, coding in (
        ("mapillary_vistas", 70 * 256, "id * 256 + k"),
        ("cityscapes_coarse", 40003, "id * 1000 + k"),
    ):
        frames = opened(written := write(name), next(iter(written.frames)))
        path = frames.path("instance_ids", frames.names[0])
        with Image.open(path) as image:
            array = np.array(image)
        array[0, :5] = value
        write_png(path, array.astype(np.uint16))
        (fault,) = faults(written, frames.split)
        assert fault == f"{path}: needed {coding} of the class table {written.classes.name}, found {value} in 5 px"


def test_coding_that_cannot_say_all_classes_of_the_table_is_refused(write: Write) -> None:
    written = write("mapillary_vistas")
    given = {"path": data_of(written)["instance_ids"]["path"], "coding": "id*1000+k"}
    needed = (
        r"^data\.instance_ids\.coding: class 'animal--bird' of mapillary_vistas: needed an id from 1 to .*, found 0$"
    )
    with pytest.raises(ValueError, match=needed):
        opened(written, "training", instance_ids=given)


def test_number_above_its_base_is_another_class_than_the_class_file_s(write: Write) -> None:
    frames = opened(written := write("cityscapes_coarse"), "train")
    path = frames.path("instance_ids", frames.names[0])
    with Image.open(path) as image:
        array = np.array(image)
    array[array == 26001] = 26 * 1000 + 1001
    write_png(path, array.astype(np.uint16))
    (fault,) = faults(written, "train")
    assert re.search(r"needed the classes of .*, found another class in .* %.*26 \(car\) for 27 \(truck\)", fault)


def test_ids_in_files_of_train_ids_are_refused(write: Write) -> None:
    frames = opened(written := write("cityscapes_coarse"), "train")
    path = frames.path("class_ids", frames.names[0])
    given = {"path": data_of(written)["class_ids"], "labels": "train_ids"}
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(path))}: needed train ids from 0 to 18, or 255, found 23 in "
    ):
        opened(written, "train", class_ids=given).read("class_ids", frames.names[0])


def test_train_ids_in_files_of_ids_are_refused_with_a_hint(write: Write) -> None:
    written = write("bdd100k")
    frames = opened(written, "train", class_ids="labels/sem_seg/masks/{split}/{name}.png")
    with pytest.raises(ValueError, match=r"found 255 in \d+ px; its values look like train ids"):
        frames.read("class_ids", frames.names[0])


@pytest.mark.parametrize(
    ("name", "array", "needed"),
    [
        ("bdd100k", np.zeros((40, 48, 3), np.uint8), "needed 8-bit single-channel (grey), found 8-bit RGB"),
        ("bdd100k", np.zeros((40, 48), np.uint16), "needed 8-bit single-channel (grey), found 16-bit grey"),
        ("mapillary_vistas", np.zeros((40, 48, 3), np.uint8), "needed 8-bit palette or grey, found 8-bit RGB"),
        ("mapillary_vistas", np.zeros((40, 48), np.uint16), "needed 8-bit palette or grey, found 16-bit grey"),
        ("coco_panoptic", np.zeros((40, 48), np.uint8), "needed 8-bit RGB, found 8-bit grey"),
        ("rgbd", np.zeros((8, 8), np.uint8), "needed {} x {} px"),
    ],
)
def test_labels_of_another_coding_are_found_before_any_work(
    write: Write, name: str, array: np.ndarray, needed: str
) -> None:
    frames = opened(written := write(name), next(iter(written.frames)))
    size = frames.source_size(frames.names[1])
    path = frames.path("class_ids", frames.names[1])
    write_png(path, array if name == "rgbd" else np.resize(array, (*size, *array.shape[2:])))
    expected = f"{path}: {needed.format(*size)}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        frames.check_headers()
    assert faults(written, frames.split)[0].startswith(expected)


def test_photograph_of_16_bits_is_refused(write: Write) -> None:
    frames = opened(write("rgbd"), "train")
    path = frames.path("image", frames.names[1])
    write_png(path, np.zeros((32, 64), dtype=np.uint16))
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(path))}: needed a picture of 8 bits, found one of mode I;16"
    ):
        frames.read("image", frames.names[1])
