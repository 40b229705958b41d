import re
from pathlib import Path
from typing import Any

import pytest

from multitask.data.class_tables import FOLDER
from multitask.data.description import (
    ClassFiles,
    DepthFiles,
    DisparityFiles,
    InstanceFiles,
    describe,
)
from multitask.data.formats import check_keys, open_split
from tests.compose import ROOT, config
from tests.described import WRITERS, ready

IMAGE = {"image": "images/{split}/{name}.jpg"}
PNG = "x/{split}/{name}.png"


def test_nothing_but_pictures_is_needed() -> None:
    found = describe(IMAGE)
    assert found.image.text == "images/{split}/{name}.jpg"
    assert (found.class_ids, found.instance_ids, found.disparity, found.camera, found.splits) == (None,) * 5


def test_text_is_a_path_alone() -> None:
    found = describe(IMAGE | {"class_ids": PNG}).class_ids
    assert found
    assert found == ClassFiles(found.pattern)
    assert found.pattern.text == PNG


def test_keys_say_what_values_mean() -> None:
    found = describe(
        IMAGE
        | {
            "class_ids": {"path": PNG, "labels": "train_ids", "palette": True},
            "instance_ids": {"path": "i/{name}.png", "coding": "id*256+k", "first": 0},
            "disparity": {"path": "d/{name}.png", "scale": 128, "offset": 1, "invalid": 65535},
            "camera": "c/{name}.json",
            "splits": ["train"],
        }
    )
    assert found.class_ids
    assert (found.class_ids.train_ids, found.class_ids.palette, found.class_ids.table) == (True, True, None)
    assert isinstance(found.instance_ids, InstanceFiles)
    assert (found.instance_ids.coding, found.instance_ids.first) == ("id*256+k", 0)
    assert isinstance(found.disparity, DisparityFiles)
    assert (found.disparity.scale, found.disparity.offset, found.disparity.invalid) == (128.0, 1.0, 65535)
    assert found.camera
    assert (found.camera.text, found.splits) == ("c/{name}.json", ["train"])


def test_depth_is_what_disparity_is_made_of() -> None:
    depth = {"path": PNG, "unit_m": 0.001, "focal_times_baseline": 389.6}
    found = describe(IMAGE | {"depth": depth}).disparity
    assert isinstance(found, DepthFiles)
    assert (found.unit_m, found.invalid, found.focal_times_baseline) == (0.001, 0, 389.6)
    found = describe(IMAGE | {"depth": {"path": PNG, "unit_m": 1}, "camera": "c/{name}.json"}).disparity
    assert isinstance(found, DepthFiles)
    assert found.focal_times_baseline is None


PANOPTIC = {"path": PNG, "coding": "panoptic", "json": "{split}.json"}
INSTANCES = {"path": PNG, "coding": "id*1000+k"}
DISPARITY = {"path": PNG, "scale": 256}
DEPTH = {"path": PNG, "unit_m": 0.001, "focal_times_baseline": 389.6}


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({"image": None}, "data.image: needed a pattern such as images/{split}/{name}.jpg, found none"),
        ({"image": {"path": PNG}}, "data.image: needed a pattern such as "),
        ({"class_ids": "labels.png"}, "data.class_ids.path: needed {name} once, found 'labels.png'"),
        ({"class_ids": {"labels": "ids"}}, "data.class_ids.path: needed a pattern such as "),
        (
            {"class_ids": [PNG]},
            "data.class_ids: needed a pattern, or the keys ['path', 'labels', 'palette', 'coding', ",
        ),
        ({"class_ids": {"path": PNG, "label": "ids"}}, "data.class_ids.label: unknown key, needed some of ['path', "),
        (
            {"class_ids": {"path": PNG, "labels": "trainids"}},
            "data.class_ids.labels: needed one of ['ids', 'train_ids']",
        ),
        ({"class_ids": {"path": PNG, "palette": "yes"}}, "data.class_ids.palette: needed true or false, found 'yes'"),
        (
            {"class_ids": {"path": PNG, "coding": "id*1000+k"}},
            "data.class_ids.coding: needed one of ['panoptic'], found",
        ),
        ({"class_ids": PANOPTIC | {"json": None}}, "data.class_ids.json: needed the table of the segments, such as "),
        (
            {"class_ids": PANOPTIC | {"json": "{name}.json"}},
            "data.class_ids.json: needed no {name}, found '{name}.json'",
        ),
        (
            {"class_ids": PANOPTIC | {"labels": "ids"}},
            "data.class_ids.labels: no key of data.class_ids.coding=panoptic",
        ),
        ({"class_ids": {"path": PNG, "json": "a.json"}}, "data.class_ids.json: no key of data.class_ids.coding=null"),
        (
            {"class_ids": IMAGE["image"]},
            "data.class_ids.path: needed other files than data.image, found 'images/{split}",
        ),
        (
            {"instance_ids": PNG},
            "data.instance_ids.coding: needed one of ['id*1000+k', 'id*256+k', 'number', 'panoptic']",
        ),
        (
            {"instance_ids": INSTANCES | {"coding": "id*100+k"}},
            "data.instance_ids.coding: needed one of ['id*1000+k', ",
        ),
        (
            {"instance_ids": INSTANCES | {"coding": ["number"]}},
            "data.instance_ids.coding: needed one of ['id*1000+k', ",
        ),
        (
            {"instance_ids": INSTANCES | {"first": 0}},
            "data.instance_ids.first: no key of data.instance_ids.coding=id*1000+k",
        ),
        (
            {"instance_ids": INSTANCES | {"palette": True}},
            "data.instance_ids.palette: no key of data.instance_ids.coding=id*",
        ),
        (
            {"instance_ids": INSTANCES | {"json": "a.json"}},
            "data.instance_ids.json: no key of data.instance_ids.coding=id*10",
        ),
        (
            {"instance_ids": PANOPTIC | {"first": 0}},
            "data.instance_ids.first: no key of data.instance_ids.coding=panoptic",
        ),
        (
            {"instance_ids": {"path": PNG, "coding": "id*256+k", "first": 2}},
            "data.instance_ids.first: needed 0 or 1, found 2",
        ),
        (
            {"instance_ids": {"path": PNG, "coding": "number"}},
            "data.class_ids: needed for data.instance_ids.coding=number",
        ),
        ({"disparity": PNG}, "data.disparity.scale: needed a number above zero, found None"),
        ({"disparity": DISPARITY | {"scale": 0}}, "data.disparity.scale: needed a number above zero, found 0"),
        ({"disparity": DISPARITY | {"scale": "256"}}, "data.disparity.scale: needed a number above zero, found '256'"),
        ({"disparity": DISPARITY | {"offset": None}}, "data.disparity.offset: needed a number, found None"),
        ({"disparity": DISPARITY | {"offset": float("nan")}}, "data.disparity.offset: needed a number, found nan"),
        ({"disparity": DISPARITY | {"invalid": -1}}, "data.disparity.invalid: needed a value of 16 bits, found -1"),
        (
            {"disparity": DISPARITY | {"invalid": 65536}},
            "data.disparity.invalid: needed a value of 16 bits, found 65536",
        ),
        (
            {"disparity": DISPARITY | {"unit_m": 1}},
            "data.disparity.unit_m: unknown key, needed some of ['path', 'scale', ",
        ),
        ({"depth": DEPTH | {"unit_m": None}}, "data.depth.unit_m: needed a number above zero, found None"),
        (
            {"depth": DEPTH | {"scale": 1}},
            "data.depth.scale: unknown key, needed some of ['path', 'unit_m', 'invalid', ",
        ),
        ({"depth": DEPTH | {"path": "d.png"}}, "data.depth.path: needed {name} once, found 'd.png'"),
        (
            {"depth": DEPTH | {"focal_times_baseline": None}},
            "data.depth.focal_times_baseline: needed px m, or data.camera; found neither",
        ),
        (
            {"depth": DEPTH | {"focal_times_baseline": -1}},
            "data.depth.focal_times_baseline: needed a number above zero, found -1",
        ),
        ({"depth": DEPTH, "disparity": DISPARITY}, "data.depth: needed disparity or depth, found both"),
        ({"camera": {"path": PNG}}, "data.camera: needed a pattern such as "),
        ({"camera": "camera.json"}, "data.camera: needed {name} once, found 'camera.json'"),
    ],
)
def test_description_with_a_mistake_names_the_key(keys: dict[str, Any], needed: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(needed)}[^\n]*$"):
        describe(IMAGE | keys)


# Configurations


def test_every_ready_description_has_its_own_keys_and_a_miniature() -> None:
    ready_ones = {
        path.stem
        for path in (ROOT / "configs/data").glob("*.yaml")
        if config(f"data={path.stem}", name="prepare_data")["data"].get("format") == "folder"
    }
    assert ready_ones == {"folder", *WRITERS}
    for name in WRITERS:
        assert check_keys(ready(name)) == "folder"
        assert describe(ready(name)).class_ids
        assert ready(name)["name"] == name
        assert (FOLDER / f"{ready(name)['classes']}.yaml").is_file()


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({"clases": "a.yaml"}, "data.clases: unknown key, needed some of ['root', 'image', 'class_ids', "),
        ({"roots": ["a"]}, "data.roots: no key of data.format=folder, needed some of ['root', 'image', "),
        ({"seed": 1}, "data.seed: no key of data.format=folder, needed some of"),
        ({"partial": 1}, "data.partial: needed true or false, found 1"),
        ({"root": None}, "data.root: needed a folder, found None"),
        ({"classes": "???"}, "data.classes: needed one of ['camvid', "),
    ],
)
def test_keys_of_the_group_are_known(tmp_path: Path, keys: dict[str, Any], needed: str) -> None:
    data = ready("rgbd") | {"root": str(tmp_path)} | keys
    with pytest.raises(ValueError, match=rf"^{re.escape(needed)}[^\n]*$"):
        open_split(data, "train")


def test_other_formats_know_no_key_of_folders() -> None:
    data = config("data=kitti", name="prepare_data")["data"] | IMAGE
    with pytest.raises(ValueError, match=r"data\.image: no key of data\.format=kitti, needed some of \['root'\]"):
        check_keys(data)
