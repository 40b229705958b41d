"""Miniature data sets in the layouts and codings of the ready descriptions, and what their layers are."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from multitask.data.census import take_census
from multitask.data.class_tables import built_in
from multitask.data.classes import ClassTable
from multitask.data.described import Described
from multitask.data.formats import layout_of, open_split
from multitask.data.layout import Camera, write_camera
from tests.compose import config

SIZE = (32, 64)
CAMERA = Camera(baseline=0.21, fx=70.0, fy=70.0, u0=31.5, v0=15.5, z=1.2)

Layers = dict[str, np.ndarray]
Write = Callable[[str], "Miniature"]


class Drawn(NamedTuple):
    """One frame before it is coded.

    Attributes:
        names: (H, W) object: name of the class of each pixel; "" where there is none.
        numbers: (H, W) int: which of the frame's things a pixel is of, from 1; 0 for stuff and for crowds.
        metres: (H, W) float: depth; 0 where there is none.
    """

    names: np.ndarray
    numbers: np.ndarray
    metres: np.ndarray


class Miniature(NamedTuple):
    """A data set that was written.

    Attributes:
        name: of its configuration.
        root: of the data set.
        classes: of its files.
        frames: the layers of each frame by split and name, as a `Sample` has them; pictures as they were before JPEG.
    """

    name: str
    root: Path
    classes: ClassTable
    frames: dict[str, dict[str, Layers]]


def draw(seed: int, stuff: list[str], things: list[str], crowd: bool, nothing: str) -> Drawn:
    """Blocks of 8 x 8 px of stuff, two things that touch, a crowd or a thing of another class, and rows of nothing."""
    rng = np.random.default_rng((5, seed))
    height, width = SIZE if seed % 3 else (40, 48)
    names = np.array(stuff, dtype=object)[rng.integers(len(stuff), size=(-(-height // 8), -(-width // 8)))]
    names = names.repeat(8, 0).repeat(8, 1)[:height, :width]
    numbers = np.zeros((height, width), dtype=int)
    if things:
        names[4:14, 6:26] = things[0]
        numbers[4:14, 6:16], numbers[4:14, 16:26] = 1, 2
        names[18:26, 30:42] = things[1]
        numbers[18:26, 30:42] = 0 if crowd else 3
    names[-2:] = nothing
    metres = np.round(rng.uniform(0.4, 9.9, size=(height, width)), 3)
    metres[rng.random((height, width)) < 0.2] = 0
    return Drawn(names, numbers, metres)


def picture(drawn: Drawn, classes: ClassTable) -> np.ndarray:
    """(H, W, 3) uint8: a colour for each class, so that a network can learn from it."""
    image = np.zeros((*drawn.names.shape, 3), dtype=np.uint8)
    for row, column in np.ndindex(*drawn.names.shape):
        class_id = classes.class_id.get(drawn.names[row, column], 0)
        image[row, column] = class_id * 37 % 256, 255 - class_id * 11 % 256, class_id * 5 % 256
    return image


def layers(drawn: Drawn, classes: ClassTable, keys: tuple[str, ...], counted: Callable[[str, int], int]) -> Layers:
    """What a frame's layers are.

    Args:
        drawn: the frame.
        classes: its table.
        keys: kinds of layers that it has.
        counted: which instance of its class a thing is, by the class's name and the thing's number.
    """
    found: Layers = {"image": picture(drawn, classes)}
    class_ids = np.zeros(drawn.names.shape, dtype=np.uint8)
    instance_ids = np.zeros(drawn.names.shape, dtype=np.int32)
    for pixel in np.ndindex(*drawn.names.shape):
        name, number = drawn.names[pixel], int(drawn.numbers[pixel])
        class_ids[pixel] = classes.class_id[name] if name else 0
        instance_ids[pixel] = class_ids[pixel]
        if number:
            instance_ids[pixel] = int(class_ids[pixel]) * 1000 + counted(name, number)
    found |= {"class_ids": class_ids, "instance_ids": instance_ids}
    return {kind: layer for kind, layer in found.items() if kind in ("image", *keys)}


def values(drawn: Drawn, value: Callable[[str, int], int], dtype: type) -> np.ndarray:
    """(H, W): what a file holds, by the name of a pixel's class and the number of its thing."""
    coded = np.zeros(drawn.names.shape, dtype=dtype)
    for pixel in np.ndindex(*drawn.names.shape):
        coded[pixel] = value(drawn.names[pixel], int(drawn.numbers[pixel]))
    return coded


def save(path: Path, array: np.ndarray, palette: list[int] | None = None) -> None:
    """Writes a picture in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette(palette)  # which makes it one with a palette
    image.save(path, quality=95) if path.suffix == ".jpg" else image.save(path)


def _id(classes: ClassTable, name: str) -> int:
    """The value of a class in label files."""
    return next(label.id for label in classes.labels if label.name == name and label.id is not None)


def write_bdd100k(root: Path) -> Miniature:
    """Train ids of Cityscapes' classes, 255 for nothing."""
    classes, frames = built_in("cityscapes"), {}
    stuff = ["road", "sky", "car", "vegetation"]
    for part, (split, count) in enumerate({"train": 4, "val": 2}.items()):
        for index in range(count):
            drawn, name = draw(10 * part + index, stuff, [], False, ""), f"{part:04x}{index:04x}-0000000{index}"
            save(root / f"images/10k/{split}/{name}.jpg", picture(drawn, classes))
            ids = values(drawn, lambda name, _: classes.names.index(name) if name else 255, np.uint8)
            save(root / f"labels/sem_seg/masks/{split}/{name}.png", ids)
            frames.setdefault(split, {})[name] = layers(drawn, classes, ("class_ids",), lambda *_: 0)
    return Miniature("bdd100k", root, classes, frames)


def write_mapillary_vistas(root: Path) -> Miniature:
    """Ids from 0 in a palette of any colours; ids times 256 and the number of the instance in its class, from 0."""
    classes, frames = built_in("mapillary_vistas"), {}
    stuff, things = ["nature--sky", "construction--flat--road"], ["animal--bird", "object--vehicle--car"]
    palette = [number * 7 % 256 for number in range(3 * 66)]

    def counted(name: str, number: int) -> int:
        return 0 if name == things[1] else number - 1

    for part, (split, count) in enumerate({"training": 4, "validation": 2, "testing": 1}.items()):
        for index in range(count):
            drawn, name = draw(20 + 10 * part + index, stuff, things, False, "void--unlabeled"), f"_{part}-{index}aZ"
            save(root / split / f"images/{name}.jpg", picture(drawn, classes))
            frames.setdefault(split, {})[name] = layers(drawn, classes, (), counted)
            if split == "testing":
                continue
            ids = values(drawn, lambda name, _: _id(classes, name), np.uint8)
            save(root / split / f"v1.2/labels/{name}.png", ids, palette)
            coded = values(
                drawn, lambda name, number: _id(classes, name) * 256 + (number and counted(name, number)), np.uint16
            )
            save(root / split / f"v1.2/instances/{name}.png", coded)
            frames[split][name] = layers(drawn, classes, ("class_ids", "instance_ids"), counted)
    return Miniature("mapillary_vistas", root, classes, frames)


def write_coco_panoptic(root: Path) -> Miniature:
    """A number of 24 bits for each segment, one of which is a crowd, and their classes in a table."""
    classes, frames = built_in("coco_panoptic"), {}
    stuff, things = ["sky-other-merged", "road", "grass-merged"], ["person", "dog"]
    for part, (split, count) in enumerate({"train": 4, "val": 2}.items()):
        annotations = []
        for index in range(count):
            drawn, name = draw(60 + 10 * part + index, stuff, things, True, ""), f"{part * 100 + index:012d}"
            save(root / f"{split}2017/{name}.jpg", picture(drawn, classes))
            segments = sorted({(n, k) for n, k in zip(drawn.names.flat, drawn.numbers.flat, strict=True) if n})
            rng = np.random.default_rng(index)
            drawn_ids = rng.choice(2**24 - 1, len(segments), replace=False) + 1
            numbers = {segment: int(number) for segment, number in zip(segments, drawn_ids, strict=True)}
            coded = values(drawn, lambda n, k, numbers=numbers: numbers[n, k] if n else 0, np.int64)
            colors = np.stack([coded % 256, coded // 256 % 256, coded // 65536], axis=-1).astype(np.uint8)
            save(root / f"annotations/panoptic_{split}2017/{name}.png", colors)
            info = [
                {"id": number, "category_id": _id(classes, n), "iscrowd": int(n == "dog"), "bbox": [], "area": 1}
                for (n, _), number in numbers.items()
            ]
            annotations.append({"segments_info": info, "file_name": f"{name}.png", "image_id": part * 100 + index})
            keys = ("class_ids", "instance_ids")
            frames.setdefault(split, {})[name] = layers(drawn, classes, keys, lambda _, number: number)
        content = {"info": {}, "licenses": [], "images": [], "annotations": annotations, "categories": []}
        (root / f"annotations/panoptic_{split}2017.json").write_text(json.dumps(content))
    return Miniature("coco_panoptic", root, classes, frames)


def write_rgbd(root: Path) -> Miniature:
    """Ids with 0 for nothing, depth in mm with 0 for nothing, and pictures in several formats."""
    classes, frames = built_in("nyu40"), {}
    stuff = ["wall", "floor", "chair", "picture"]
    for part, (split, count) in enumerate({"train": 4, "val": 2}.items()):
        for index in range(count):
            drawn, name = draw(90 + 10 * part + index, stuff, [], False, ""), f"{part}{index:03d}"
            save(root / split / "rgb" / f"{name}.{'png' if index % 2 else 'jpg'}", picture(drawn, classes))
            save(
                root / split / f"labels/{name}.png",
                values(drawn, lambda n, _: _id(classes, n) if n else 0, np.uint8),
            )
            save(root / split / f"depth/{name}.png", np.round(drawn.metres * 1000).astype(np.uint16))
            disparity = np.full(drawn.names.shape, np.nan, dtype=np.float32)
            for pixel in np.ndindex(*drawn.names.shape):
                if drawn.metres[pixel]:
                    disparity[pixel] = 38.9 / drawn.metres[pixel]
            found = layers(drawn, classes, ("class_ids",), lambda *_: 0)
            frames.setdefault(split, {})[name] = found | {"disparity": disparity}
    return Miniature("rgbd", root, classes, frames)


def write_cityscapes_coarse(root: Path) -> Miniature:
    """Ids, ids times 1000 and a number, disparity and cameras, in a folder for each city."""
    classes, frames = built_in("cityscapes"), {}
    stuff, things = ["road", "sky", "building"], ["car", "person"]
    for part, (split, count) in enumerate({"train": 4, "val": 2, "train_extra": 2}.items()):
        for index in range(count):
            drawn = draw(120 + 10 * part + index, stuff, things, True, "out of roi")
            city = f"{split.replace('_', '')}{index % 2}"
            name = f"{city}/{city}_{index:06d}_000019"
            save(root / f"leftImg8bit/{split}/{name}_leftImg8bit.png", picture(drawn, classes))
            coarse = root / f"gtCoarse/{split}"
            ids = values(drawn, lambda n, _: _id(classes, n), np.uint8)
            save(coarse / f"{name}_gtCoarse_labelIds.png", ids)
            coded = values(drawn, lambda n, k: _id(classes, n) * 1000 + k - 1 if k else _id(classes, n), np.uint16)
            save(coarse / f"{name}_gtCoarse_instanceIds.png", coded)
            found = layers(drawn, classes, ("class_ids", "instance_ids"), lambda _, number: number - 1)
            if split != "train_extra":
                coded = np.round(drawn.metres * 256).astype(np.uint16)  # any number, 0 where there is none
                save(root / f"disparity/{split}/{name}_disparity.png", coded)
                write_camera(root / f"camera/{split}/{name}_camera.json", CAMERA)
                disparity = np.full(drawn.names.shape, np.nan, dtype=np.float32)
                for pixel in np.ndindex(*drawn.names.shape):
                    if coded[pixel]:
                        disparity[pixel] = (int(coded[pixel]) - 1) / 256
                found["disparity"] = disparity
            frames.setdefault(split, {})[name.replace("/", "_")] = found
    return Miniature("cityscapes_coarse", root, classes, frames)


WRITERS: dict[str, Callable[[Path], Miniature]] = {
    "bdd100k": write_bdd100k,
    "mapillary_vistas": write_mapillary_vistas,
    "coco_panoptic": write_coco_panoptic,
    "rgbd": write_rgbd,
    "cityscapes_coarse": write_cityscapes_coarse,
}
"""What writes a miniature of the data set that a ready configuration describes."""


@cache
def ready(name: str) -> dict[str, Any]:
    """The configuration group of a ready description."""
    found: dict[str, Any] = config(f"data={name}", name="prepare_data")["data"]
    return found


def data_of(miniature: Miniature, **keys: Any) -> dict[str, Any]:
    """The configuration group of a miniature."""
    return ready(miniature.name) | {"root": str(miniature.root)} | keys


def opened(miniature: Miniature, split: str, **keys: Any) -> Described:
    found = open_split(data_of(miniature, **keys), split)
    assert isinstance(found, Described)
    return found


def faults(miniature: Miniature, split: str, **keys: Any) -> list[str]:
    """What a check says of one split."""
    data = data_of(miniature, **keys)
    return take_census(layout_of(data), miniature.root, split, miniature.classes, 1, partial=data["partial"]).faults
