"""Speed of the metrics, compared with the official scripts on the same frames."""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from multitask.benchmark import official
from multitask.benchmark.timing import Results, median_seconds, seconds
from multitask.data.cityscapes import Cityscapes
from multitask.data.classes import IGNORE, INSTANCE_BASE
from multitask.data.layout import file_path
from multitask.data.sample import Sample
from multitask.evaluation.result_files import write_results
from multitask.metrics import PANOPTIC, PredictedInstance, PredictedScene, SceneMetrics
from multitask.synthetic import write_dataset
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic

_SIZE = (1024, 2048)
"""Size (H, W) of Cityscapes' frames, px."""


def measure_metrics(repeats: int, num_frames: int) -> Results:
    """Measures all semantic, instance and panoptic metrics at Cityscapes' size: ours in memory, theirs from files.

    Their time includes neither writing the result files nor converting the ground truth to the panoptic format. Without
    the package ``cityscapesscripts`` only our time is measured.

    Args:
        repeats: number of repetitions of ours, of which the median is reported; theirs take long and run once.
        num_frames: number of frames.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "frames", {official.SPLIT: num_frames}, size=_SIZE, seed=0, workers=1)
        data = Cityscapes(folder / "frames", official.SPLIT, _SIZE, official.CLASSES)
        # The released scripts do not use distances.
        samples = [replace(data[index], disparity=None, camera=None) for index in range(num_frames)]
        pairs = [(sample, _flawed(sample, np.random.default_rng(index))) for index, sample in enumerate(samples)]
        figures = _figures(pairs)
        ours = median_seconds(lambda: _figures(pairs), repeats)
        frames = f"{num_frames} frames of {_SIZE[0]} x {_SIZE[1]}"
        results: Results = {f"metrics of {frames}": (ours / num_frames * 1000, "ms/frame")}
        if importlib.util.find_spec("cityscapesscripts") is None:
            return results
        theirs, expected = _official_figures(folder, pairs)
    difference = max(abs(figures.get(key, np.inf) - value) for key, value in expected.items())
    return {
        **results,
        f"official scripts, {frames}": (theirs / num_frames * 1000, "ms/frame"),
        "official scripts / metrics": (theirs / ours, "x"),
        f"largest difference of {len(expected)} figures": (difference, ""),
    }


def _figures(pairs: list[tuple[Sample, PredictedScene]]) -> dict[str, float]:
    metrics = SceneMetrics(official.CLASSES, Semantic.name, Instance.name, Depth.name)
    for sample, scene in pairs:
        metrics.update(sample, scene)
    return metrics.compute()


def _official_figures(folder: Path, pairs: list[tuple[Sample, PredictedScene]]) -> tuple[float, dict[str, float]]:
    """Returns the time (s) of the official scripts and their metrics."""
    with write_results(folder / "results", official.CLASSES) as writer:
        for sample, scene in pairs:
            writer.write(sample.name, scene)
    names = [sample.name for sample, _ in pairs]
    truths = {
        kind: [file_path(folder / "frames", kind, official.SPLIT, name) for name in names]
        for kind in ("class_ids", "instance_ids")
    }
    classes = [folder / "results" / "pixel-level" / f"{name}_labelIds.png" for name in names]
    lists = [folder / "results" / "instance-level" / f"{name}.txt" for name in names]
    table = official.panoptic_truth(folder / "frames", folder)
    found = {sample.name: official.write_panoptic(folder / "found", sample.name, scene) for sample, scene in pairs}
    pictures = folder / f"cityscapes_panoptic_{official.SPLIT}"
    runs: dict[str, Callable[[], dict[str, float]]] = {
        Semantic.name: lambda: official.pixel_level(truths["class_ids"], classes),
        Instance.name: lambda: official.instance_level(truths["instance_ids"], lists, folder / "results"),
        PANOPTIC: lambda: official.panoptic_level(table, pictures, found, folder / "found"),
    }
    timed = {name: _timed(run) for name, run in runs.items()}
    figures = {f"{name}/{key}": value for name, (_, values) in timed.items() for key, value in values.items()}
    return sum(time for time, _ in timed.values()), figures


def _flawed(sample: Sample, rng: np.random.Generator) -> PredictedScene:
    """Makes an imperfect prediction: the ground truth, displaced by some pixels and with wrong patches."""
    assert sample.class_ids is not None
    assert sample.instance_ids is not None
    train_ids = np.roll(official.CLASSES.train_ids[sample.class_ids], (2, 3), axis=(0, 1))
    train_ids[train_ids == IGNORE] = 0  # a network always predicts a class
    # In 3 % of all blocks of 8 x 8 px the class is vegetation, and no instance is found.
    blocks = rng.random((_SIZE[0] // 8, _SIZE[1] // 8)).repeat(8, 0).repeat(8, 1)
    train_ids[blocks < 0.03] = 8
    instance_map = np.roll(sample.instance_ids, (2, 3), axis=(0, 1))
    instance_map[(blocks < 0.03) | (instance_map < INSTANCE_BASE)] = 0
    counted = [
        number for number in np.unique(instance_map).tolist() if official.CLASSES.counted[number // INSTANCE_BASE]
    ]
    instance_map[~np.isin(instance_map, counted)] = 0
    instances = [
        PredictedInstance(number, number // INSTANCE_BASE, round(float(rng.random()), 2)) for number in counted
    ]
    return PredictedScene(train_ids, instance_map, instances)


def _timed(function: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    """Returns the duration of a call in seconds, and its result."""
    figures: dict[str, float] = {}
    return seconds(lambda: figures.update(function())), figures
