"""Miniature data sets in layouts other than that of Cityscapes, written for tests."""

from pathlib import Path

import numpy as np

from multitask.data.class_tables import read_mapping
from multitask.data.classes import INSTANCE_BASE
from multitask.data.kitti import FOLDERS
from multitask.data.layout import write_png
from tests.cityscapes import CITYSCAPES, HAS_INSTANCES
from tests.trees import KINDS, random_layers, write_tree

CALIBRATION = """calib_time: 09-Jan-2012 14:00:15
corner_dist: 9.950000e-02
S_02: 1.392000e+03 5.120000e+02
P_rect_02: 7.0e+01 0.0 3.15e+01 7.0 0.0 7.1e+01 1.55e+01 2.1e-01 0.0 0.0 1.0 2.7e-03
P_rect_03: 7.0e+01 0.0 3.15e+01 -30.8 0.0 7.1e+01 1.55e+01 2.2e+00 0.0 0.0 1.0 2.7e-03
"""
"""fx 70, fy 71, u0 31.5, v0 15.5, baseline (7 + 30.8) / 70 = 0.54 m."""

CAMVID = read_mapping("camvid_to_cityscapes")
TO_CAMVID = {int(CAMVID.class_ids[CAMVID.source.class_ids[number]]): number for number in range(12)}

TABLES = {"cityscapes": CITYSCAPES, "kitti": CITYSCAPES, "camvid": CAMVID.source}
"""The class table of each layout's files."""


def mixed_data(roots: list[str], size: tuple[int, int]) -> dict[str, object]:
    """The configuration of several roots as one data set with the classes of Cityscapes."""
    mappings = ["camvid_to_cityscapes"]
    keys = {"image_size": size, "classes": "cityscapes", "mappings": mappings}
    return {"name": "mixed", "format": "mixed", "roots": roots, **keys}


def kitti_instances(instance_ids: np.ndarray) -> np.ndarray:
    """Ids in the coding of Cityscapes -> class id * 256 + k, where stuff is numbered, too."""
    single = instance_ids >= INSTANCE_BASE
    class_ids = np.where(single, instance_ids // INSTANCE_BASE, instance_ids)
    numbers = np.where(single, instance_ids % INSTANCE_BASE, np.where(HAS_INSTANCES[class_ids], 0, 3))
    return (class_ids * 256 + numbers).astype(np.uint16)


def kitti_layers(seed: int, size: tuple[int, int] = (32, 64)) -> dict[str, np.ndarray]:
    """What `random_layers` makes, but that no instance has the number 0 and no disparity is below 1 / 256 px."""
    layers = random_layers(np.random.default_rng((9, seed)), size)
    ids = layers["instance_ids"]
    layers["instance_ids"] = np.where(ids >= INSTANCE_BASE, ids + 1, ids)
    layers["disparity"] = np.where(layers["disparity"] > 0, layers["disparity"], np.nan)
    return layers


def write_kitti(
    root: Path, numbers: range, kinds: tuple[str, ...] = KINDS, size: tuple[int, int] = (32, 64), top: str = "training"
) -> Path:
    """Writes the frames of these numbers, and the second picture of each that the download has."""
    for number in numbers:
        layers = kitti_layers(number, size)
        coded = {
            "image": layers["image"].astype(np.uint8),
            "class_ids": layers["class_ids"].astype(np.uint8),
            "instance_ids": kitti_instances(layers["instance_ids"]),
            "disparity": np.round(np.nan_to_num(layers["disparity"]) * 256).astype(np.uint16),
        }
        for kind in set(kinds) - {"camera"}:
            write_png(root / top / FOLDERS[kind] / f"{number:06}_10.png", coded[kind])
        write_png(root / top / FOLDERS["image"] / f"{number:06}_11.png", coded["image"])
        if "camera" in kinds:
            path = root / top / FOLDERS["camera"] / f"{number:06}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CALIBRATION)
    return root


def camvid_classes(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Blocks of 4 x 4 px of random classes, (H, W) uint8."""
    blocks = np.random.default_rng((7, seed)).integers(12, size=(size[0] // 4, size[1] // 4))
    return blocks.repeat(4, 0).repeat(4, 1).astype(np.uint8)


def write_camvid(root: Path, counts: dict[str, int], size: tuple[int, int] = (24, 32), labels: bool = True) -> Path:
    """Writes ``counts[split]`` frames, whose pictures tell the class."""
    for part, (split, count) in enumerate(counts.items()):
        for index in range(count):
            classes = camvid_classes(100 * part + index, size)
            noise = np.random.default_rng(index).integers(255, size=size)
            image = np.stack([classes * 20, 255 - classes * 20, noise], axis=-1).astype(np.uint8)
            write_png(root / split / f"{part:04}TP_{index:06}.png", image)
            if labels:
                write_png(root / f"{split}annot" / f"{part:04}TP_{index:06}.png", classes)
    return root


def write_all(root: Path) -> dict[str, Path]:
    """A small data set in each layout, by its name."""
    return {
        "cityscapes": write_tree(root / "cityscapes", {"train": 3, "val": 2}),
        "kitti": write_kitti(root / "kitti", range(5)),
        "camvid": write_camvid(root / "camvid", {"train": 3, "val": 2}),
    }
