"""Miniature data sets in the Cityscapes layout, written for tests."""

from pathlib import Path

import numpy as np

from multitask.data.layout import Camera, encode_disparity, file_path, write_camera, write_png
from tests.cityscapes import EVALUATED, ID

CAMERA = Camera(baseline=0.21, fx=70.0, fy=70.0, u0=31.5, v0=15.5, z=1.2)
KINDS = ("image", "class_ids", "instance_ids", "disparity", "camera")


def write_frame(
    root: Path, split: str, name: str, layers: dict[str, np.ndarray], camera: Camera | None = CAMERA
) -> None:
    """Writes what is given: image, class_ids, instance_ids, and disparity in px with NaN for invalid."""
    for kind, layer in layers.items():
        coded = {
            "image": lambda x: x.astype(np.uint8),
            "class_ids": lambda x: x.astype(np.uint8),
            "instance_ids": lambda x: x.astype(np.uint16),
            "disparity": encode_disparity,
        }[kind](layer)
        write_png(file_path(root, kind, split, name), coded)
    if camera is not None:
        write_camera(file_path(root, "camera", split, name), camera)


def random_layers(rng: np.random.Generator, size: tuple[int, int] = (32, 64)) -> dict[str, np.ndarray]:
    """Blocks of 8 x 8 px of random classes, a car, half a group of persons, an unseen row, holes in the disparity."""
    height, width = size
    ids = np.array([label.id for label in EVALUATED if not label.has_instances])
    class_ids = rng.choice(ids, size=(-(-height // 8), -(-width // 8))).repeat(8, 0).repeat(8, 1)[:height, :width]
    class_ids[4:14, 10:30] = ID["car"]
    class_ids[20:26, 40:50] = ID["person"]
    class_ids[-1] = ID["ego vehicle"]
    instance_ids = class_ids.astype(np.int32)
    instance_ids[4:14, 10:30] = ID["car"] * 1000
    instance_ids[20:26, 40:45] = ID["person"] * 1000 + 7
    disparity = rng.integers(0, 8 * 256, size=size) / 256
    disparity[rng.random(size) < 0.2] = np.nan
    # The picture tells the class, so that a network can learn from it.
    image = np.stack([class_ids * 7, 255 - class_ids * 5, rng.integers(0, 255, size=size)], axis=-1)
    return {"image": image, "class_ids": class_ids, "instance_ids": instance_ids, "disparity": disparity}


def write_tree(
    root: Path,
    counts: dict[str, int],
    kinds: tuple[str, ...] = KINDS,
    size: tuple[int, int] = (32, 64),
    seed: int = 0,
) -> Path:
    """Writes a data set with ``counts[split]`` random frames in two cities and only the given kinds of files."""
    for number, (split, count) in enumerate(counts.items()):
        for index in range(count):
            layers = random_layers(np.random.default_rng((seed, number, index)), size)
            city = f"{split}ville" if index % 2 else f"bad_{split}"
            camera = CAMERA if "camera" in kinds else None
            name = f"{city}_{index:06d}_000019"
            write_frame(root, split, name, {kind: layers[kind] for kind in layers if kind in kinds}, camera)
    return root
