"""The official Cityscapes scripts, run in this process on written files: the reference for our metrics.

They come with the package ``cityscapesscripts`` (extra ``dev``). Metrics have the names of `multitask.metrics`; those
that a script reports as NaN, or as 0 for lack of anything to count, are left out.
"""

import contextlib
import copy
import importlib
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from multitask.data.class_tables import built_in
from multitask.data.layout import file_path, write_png
from multitask.data.sample import Sample
from multitask.metrics import PredictedScene

SPLIT = "val"

CLASSES = built_in("cityscapes")
"""The class table of the scripts; its class ids are the values in label files."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Makes the scripts work with any NumPy and print nothing, within ``with`` or as a decorator."""
    with (
        # NumPy 2.4 has removed in1d.
        mock.patch.object(np, "in1d", np.isin, create=True),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def script(name: str) -> ModuleType:
    """Imports one of the scripts, such as ``evaluation.evalPixelLevelSemanticLabeling``."""
    return importlib.import_module(f"cityscapesscripts.{name}")


def arguments(module: ModuleType, **changed: Any) -> Any:
    """Returns a copy of a script's settings, silent and with some changed."""
    args = copy.copy(module.args)
    for key, value in {"quiet": True, "JSONOutput": False, **changed}.items():
        setattr(args, key, value)
    return args


def write_truth(root: Path, sample: Sample) -> None:
    """Writes a frame's class and instance ids where the scripts expect them."""
    assert sample.class_ids is not None
    assert sample.instance_ids is not None
    write_png(file_path(root, "class_ids", SPLIT, sample.name), sample.class_ids.astype(np.uint8))
    write_png(file_path(root, "instance_ids", SPLIT, sample.name), sample.instance_ids.astype(np.uint16))


@quietly()
def pixel_level(truths: list[Path], results: list[Path]) -> dict[str, float]:
    """Returns IoU and iIoU.

    Args:
        truths: files of class ids; the files of instance ids must lie beside them.
        results: files of predicted class ids.
    """
    module = script("evaluation.evalPixelLevelSemanticLabeling")
    found = module.evaluateImgLists([str(path) for path in results], [str(path) for path in truths], arguments(module))
    means = {
        "iou_class": found["averageScoreClasses"],
        "iiou_class": found["averageScoreInstClasses"],
        "iou_category": found["averageScoreCategories"],
        "iiou_category": found["averageScoreInstCategories"],
    }
    classes = {f"iou/{name}": found["classScores"][name] for name in CLASSES.names}
    instances = {f"iiou/{name}": found["classInstScores"][name] for name in CLASSES.names}
    return known(means | classes | instances)


@quietly()
def instance_level(truths: list[Path], results: list[Path], folder: Path) -> dict[str, float]:
    """Returns AP and AP50.

    Args:
        truths: files of instance ids.
        results: lists of predicted instances.
        folder: folder of all results.
    """
    module = script("evaluation.evalInstanceLevelSemanticLabeling")
    args = arguments(module, predictionPath=str(folder.resolve()), gtInstancesFile="")
    # It would also write two tables as JSON, which fails on NumPy's integers.
    with mock.patch.object(module, "writeDict2JSON"):
        found = module.evaluateImgLists([str(path) for path in results], [str(path) for path in truths], args)
    averages = found["averages"]
    figures = {"ap": averages["allAp"], "ap50": averages["allAp50%"]}
    for name, values in averages["classes"].items():
        figures |= {f"ap/{name}": values["ap"], f"ap50/{name}": values["ap50%"]}
    return known(figures)


@quietly()
def panoptic_truth(root: Path, folder: Path) -> dict[str, Any]:
    """Writes the ground truth of the data set below ``root`` in the panoptic format; returns its table."""
    module = script("preparation.createPanopticImgs")
    module.convert2panoptic(str(root / "gtFine"), str(folder), setNames=[SPLIT])
    return json.loads((folder / f"cityscapes_panoptic_{SPLIT}.json").read_text())


def write_panoptic(folder: Path, name: str, scene: PredictedScene) -> dict[str, Any]:
    """Writes a prediction in the panoptic format; returns its annotation."""
    assert scene.train_ids is not None
    assert scene.instance_map is not None
    # The id of a segment is the class id for stuff, 1000 plus the number for an instance.
    stuff = np.where(CLASSES.counted[CLASSES.evaluated_ids], 0, CLASSES.evaluated_ids)[scene.train_ids].astype(np.int64)
    ids = np.where(scene.instance_map > 0, scene.instance_map + 1000, stuff)
    surest = {x.number: x for x in sorted(scene.instances, key=lambda x: x.confidence)}
    present = [number for number in np.unique(ids).tolist() if number]
    classes = {number: surest[number - 1000].class_id if number > 1000 else number for number in present}
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    write_png(folder / f"{name}.png", colors)
    segments = [{"id": number, "category_id": class_id} for number, class_id in classes.items()]
    return {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}


@quietly()
def panoptic_level(
    truth: Mapping[str, Any], truth_folder: Path, predicted: Mapping[str, Any], folder: Path
) -> dict[str, float]:
    """Returns PQ, SQ and RQ, computed on one core.

    Args:
        truth: table from `panoptic_truth`, with all or some of its frames.
        truth_folder: folder of its pictures.
        predicted: annotations from `write_panoptic` by name of the frame.
        folder: folder of the predicted pictures.
    """
    module = script("evaluation.evalPanopticSemanticLabeling")
    categories = {category["id"]: category for category in truth["categories"]}
    pairs = [(annotation, predicted[annotation["image_id"]]) for annotation in truth["annotations"]]
    stat = module.pq_compute_single_core(0, pairs, str(truth_folder), str(folder), categories)
    figures: dict[str, float] = {}
    for suffix, things in (("", None), ("_things", True), ("_stuff", False)):
        chosen = {id: x for id, x in categories.items() if things is None or x["isthing"] == things}
        seen = [id for id in chosen if stat[id].tp + stat[id].fp + stat[id].fn]
        if not seen:  # the script would divide by zero
            continue
        means, single = stat.pq_average(categories, isthing=things)
        figures |= {f"{key}{suffix}": means[key] for key in ("pq", "sq", "rq")}
        figures |= {f"{key}/{categories[id]['name']}": single[id][key] for id in seen for key in ("pq", "sq", "rq")}
    return known(figures)


def known(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics that are not NaN."""
    return {key: float(value) for key, value in figures.items() if not math.isnan(value)}
