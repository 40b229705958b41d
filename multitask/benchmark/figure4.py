"""Figure 4 of the paper, drawn for the documentation from the embedded data set, without a network."""

from pathlib import Path

import numpy as np
from PIL import Image

from multitask.benchmark.ceiling import noisy_truth
from multitask.data.layout import write_png
from multitask.instances import Instances, group
from multitask.reporting.panels import sheet
from multitask.synthetic import CLASSES, Scene, render

_SIZE = (256, 512)

_CASES = {
    "cut in two by poles": (1, (slice(68, 132), slice(180, 308))),
    "two that touch": (13, (slice(80, 176), slice(320, 512))),
}
"""Title -> index of the frame in the validation split, and the region to show, of height to width 1 : 2."""

_TINTS = ((240, 60, 60), (60, 150, 250), (250, 200, 40), (80, 210, 110), (200, 90, 230), (235,) * 3, (60, 220, 220))


def figure4(path: Path) -> None:
    """Draws figure 4 of the paper: the votes of an instance in separate parts, and of instances that touch.

    The votes come from true classes and true vectors with noise.

    Args:
        path: path of the PNG.
    """
    columns = []
    for title, (index, part) in _CASES.items():
        scene = render(0, "val", index, _SIZE)
        train_ids, vectors = noisy_truth(scene.class_ids, scene.instance_ids, CLASSES, np.random.default_rng(0))
        pictures = {
            f"input: {title}": scene.image,
            "votes": _votes(scene, train_ids, vectors),
            "instances": _tinted(scene.image, group(train_ids, vectors, CLASSES)),
        }
        columns.append([(text, Image.fromarray(picture[part])) for text, picture in pictures.items()])
    write_png(path, sheet(columns, (512, 256)))


def _votes(scene: Scene, train_ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Draws the number of votes for each pixel, on a logarithmic scale, over the darkened picture."""
    height, width = train_ids.shape
    rows, columns = np.nonzero(train_ids)
    places = np.rint(np.stack([rows, columns]) + vectors[::-1, rows, columns]).astype(np.int64)
    inside = ((places >= 0) & (places < np.array([[height], [width]]))).all(0)
    number = np.zeros(train_ids.shape)
    np.add.at(number, tuple(places[:, inside]), 1)
    level = np.minimum(np.log1p(number) / np.log1p(30), 1)[..., None]
    return (scene.image * 0.35 * (1 - level) + np.array([255, 240, 120]) * level).astype(np.uint8)


def _tinted(image: np.ndarray, instances: Instances) -> np.ndarray:
    tints = np.array([(0, 0, 0), *_TINTS])
    tint = tints[np.where(instances.ids > 0, (instances.ids - 1) % len(_TINTS) + 1, 0)]
    return (image * 0.45 + tint * 0.55).astype(np.uint8)
