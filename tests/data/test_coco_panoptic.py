"""The panoptic format of COCO."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.described import Miniature, Write, faults, opened


def edited(written: Miniature, edit: Callable[[list[dict[str, Any]]], object]) -> tuple[str, str]:
    """The table of a split after an edit of its annotations, and the first frame's name."""
    path = written.root / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    edit(content["annotations"])
    path.write_text(json.dumps(content))
    return str(path), min(written.frames["val"])


def segment(annotations: list[dict[str, Any]], **keys: Any) -> None:
    annotations[0]["segments_info"][0] |= keys


EDITS: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "image": (lambda found: found.pop(0), "needed the segments of {picture}, found none"),
    "segment": (
        lambda found: found[0]["segments_info"].pop(0),
        "needed segment {number} of {picture}, where {pixels} px have it, found none",
    ),
    "class": (
        lambda found: segment(found, category_id=12),
        "{name}.png: category_id: needed an id of coco_panoptic, found 12",
    ),
    "text": (
        lambda found: segment(found, category_id="1"),
        "{name}.png: category_id: needed an id of coco_panoptic, found '1'",
    ),
    "number": (lambda found: segment(found, id=0), "{name}.png: id: needed a whole number from 1 to 16777215, found 0"),
    "twice": (
        lambda found: found[0]["segments_info"].append(found[0]["segments_info"][0]),
        "{name}.png: id: needed each segment once, found {number} twice",
    ),
    "picture twice": (
        lambda found: found.append(found[0]),
        "{name}.png: needed the segments of each picture once, found two",
    ),
    "list": (
        lambda found: found[0].update(segments_info=None),
        "{name}.png: segments_info: needed a list of segments, found None",
    ),
    "file_name": (lambda found: found[0].pop("file_name"), "annotations: needed a file_name, found None"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_table_of_segments_says_what_it_lacks(write: Write, edit: str) -> None:
    written = write("coco_panoptic")
    segments = json.loads((written.root / "annotations/panoptic_val2017.json").read_text())["annotations"][0]
    change, needed = EDITS[edit]
    table, name = edited(written, change)
    picture = written.root / f"annotations/panoptic_val2017/{name}.png"
    number = segments["segments_info"][0]["id"]
    with Image.open(picture) as image:
        numbers = np.array(image).astype(int) @ [1, 256, 65536]
    words = needed.format(picture=picture, number=number, pixels=(numbers == number).sum(), name=name)
    assert f"{table}: {words}" in faults(written, "val")
    with pytest.raises(ValueError, match=re.escape(words)):
        opened(written, "val", image_size=[32, 64])[0]


def test_picture_that_the_table_lacks_is_found_before_any_work(write: Write) -> None:
    written = write("coco_panoptic")
    edited(written, EDITS["image"][0])
    with pytest.raises(ValueError, match=r"needed the segments of .*, found none"):
        opened(written, "val").check_headers()


@pytest.mark.parametrize(
    ("content", "needed"),
    [("{", "not a JSON file"), ("[]", "needed a list of annotations, found None"), (None, "no such file")],
)
def test_table_of_segments_that_is_none(write: Write, content: str | None, needed: str) -> None:
    written = write("coco_panoptic")
    path = written.root / "annotations/panoptic_val2017.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {needed}")):
        opened(written, "val")
    assert faults(written, "val") == [f"{path}: {needed}"]


def test_table_of_segments_may_name_pictures_with_folders(write: Write) -> None:
    written = write("coco_panoptic")
    names = sorted(written.frames["val"])
    for folder, name in zip("ab", names, strict=True):
        for kind in ("val2017", "annotations/panoptic_val2017"):
            (path,) = (written.root / kind).glob(f"{name}.*")
            path.parent.joinpath(folder).mkdir(exist_ok=True)
            path.rename(path.parent / folder / f"same{path.suffix}")
    edited(written, lambda found: [row.update(file_name=f"{f}/same.png") for f, row in zip("ab", found, strict=True)])
    frames = opened(written, "val")
    assert frames.names == ["a_same", "b_same"]
    for name, own in zip(frames.names, names, strict=True):
        np.testing.assert_array_equal(frames.read("instance_ids", name), written.frames["val"][own]["instance_ids"])
