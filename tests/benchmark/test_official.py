"""Every figure that the official scripts compute, held against them on files written for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multitask.benchmark import official
from multitask.data.layout import file_path
from multitask.evaluation.result_files import write_results
from multitask.metrics import SceneMetrics
from multitask.metrics.average_precision import OVERLAPS
from tests.cityscapes import CITYSCAPES, INSTANCE_CLASSES
from tests.metrics.pairs import Pair, adversarial_pairs, random_pair

pytest.importorskip("cityscapesscripts")

NUM_RANDOM = 110
INSTANCE_SCRIPT = "evaluation.evalInstanceLevelSemanticLabeling"


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    found = [random_pair(seed) for seed in range(NUM_RANDOM)] + list(adversarial_pairs().values())
    # The released scripts know nothing of distances.
    return [(replace(sample, disparity=None, camera=None), scene) for sample, scene in found]


@pytest.fixture(scope="module")
def folder(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truth below ``data``, results below ``results``."""
    folder = tmp_path_factory.mktemp("official")
    with write_results(folder / "results", CITYSCAPES) as writer:
        for sample, scene in pairs:
            official.write_truth(folder / "data", sample)
            writer.write(sample.name, scene)
    return folder


def _ours(pairs: list[Pair]) -> dict[str, dict[str, float]]:
    """Figures by group."""
    metrics = SceneMetrics(CITYSCAPES, "pixels", "objects", "metres")
    for sample, scene in pairs:
        metrics.update(sample, scene)
    groups: dict[str, dict[str, float]] = {"pixels": {}, "objects": {}, "panoptic": {}}
    for key, value in metrics.compute().items():
        group, _, name = key.partition("/")
        groups[group][name] = value
    return groups


def _truth(folder: Path, kind: str, pair: Pair) -> Path:
    return file_path(folder / "data", kind, official.SPLIT, pair[0].name)


def _classes(folder: Path, pair: Pair) -> Path:
    return folder / "results" / "pixel-level" / f"{pair[0].name}_labelIds.png"


def _list(folder: Path, pair: Pair) -> Path:
    return folder / "results" / "instance-level" / f"{pair[0].name}.txt"


def _assert_equal(found: dict[str, float], expected: dict[str, float], what: str) -> None:
    assert found.keys() == expected.keys(), what
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=0, abs=1e-9), f"{what}: {key}"


def test_pairs_are_many_and_varied(pairs: list[Pair]) -> None:
    assert len(pairs) >= 100
    scores = np.array([_ours([pair])["objects"].get("ap", np.nan) for pair in pairs])
    assert np.isnan(scores).any()
    assert (scores == 0).any()
    assert (scores == 1).any()
    assert ((scores > 0.05) & (scores < 0.95)).sum() > 20


def test_results_are_found_by_the_scripts(pairs: list[Pair], folder: Path) -> None:
    pixels, instances = official.script("evaluation.evalPixelLevelSemanticLabeling"), official.script(INSTANCE_SCRIPT)
    place = str((folder / "results").resolve())
    for pair in (pairs[0], pairs[-1]):
        args = official.arguments(pixels, predictionPath=place)
        assert Path(pixels.getPrediction(args, str(_truth(folder, "class_ids", pair)))) == _classes(folder, pair)
        args = official.arguments(instances, predictionPath=place)
        assert Path(instances.getPrediction(str(_truth(folder, "instance_ids", pair)), args)) == _list(folder, pair)


def test_iou_and_iiou_agree_on_each_frame(pairs: list[Pair], folder: Path) -> None:
    for pair in pairs:
        expected = official.pixel_level([_truth(folder, "class_ids", pair)], [_classes(folder, pair)])
        _assert_equal(_ours([pair])["pixels"], expected, pair[0].name)


def test_iou_and_iiou_agree_on_all_frames(pairs: list[Pair], folder: Path) -> None:
    truths = [_truth(folder, "class_ids", pair) for pair in pairs]
    expected = official.pixel_level(truths, [_classes(folder, pair) for pair in pairs])
    assert len(expected) == 4 + 19 + 8
    _assert_equal(_ours(pairs)["pixels"], expected, "all")


@pytest.fixture(scope="module")
def matches(pairs: list[Pair], folder: Path) -> list[dict[str, Any]]:
    """What the script for instances finds in each frame."""
    module = official.script(INSTANCE_SCRIPT)
    place = str((folder / "results").resolve())
    args = official.arguments(module, predictionPath=place, gtInstancesFile=str(folder / "instances.json"))
    module.setInstanceLabels(args)
    truths = [str(_truth(folder, "instance_ids", pair)) for pair in pairs]
    lists = [str(_list(folder, pair)) for pair in pairs]
    with official.quietly():
        found = module.matchGtWithPreds(lists, truths, module.getGtInstances(truths, args), args)
    return [{key: value} for key, value in found.items()]


@official.quietly()
def _official_precision(matches: dict[str, Any]) -> tuple[dict[str, float], int]:
    """AP and AP50 from the script's matches, and how often it failed."""
    module = official.script(INSTANCE_SCRIPT)
    names = list(INSTANCE_CLASSES.values())
    table = np.zeros((1, len(names), len(OVERLAPS)))
    failures = 0
    for row, name in enumerate(names):
        for column in range(len(OVERLAPS)):
            args = official.arguments(module, instLabels=[name], overlaps=OVERLAPS[column : column + 1])
            try:
                table[0, row, column] = module.evaluateMatches(matches, args)[0, 0, 0]
            except IndexError:
                # There is truth, but every prediction is to be ignored: the script takes the last of no scores.
                failures += 1
    averages = module.computeAverages(table, official.arguments(module, instLabels=names))
    figures = {"ap": averages["allAp"], "ap50": averages["allAp50%"]}
    for name in names:
        figures[f"ap/{name}"] = averages["classes"][name]["ap"]
        figures[f"ap50/{name}"] = averages["classes"][name]["ap50%"]
    return official.known(figures), failures


def test_average_precision_agrees_on_each_frame(pairs: list[Pair], folder: Path, matches: list[dict[str, Any]]) -> None:
    failures = 0
    for pair, found in zip(pairs, matches, strict=True):
        expected, failed = _official_precision(found)
        failures += failed
        _assert_equal(_ours([pair])["objects"], expected, pair[0].name)
    assert failures < len(pairs)


def test_average_precision_agrees_on_groups_of_frames(pairs: list[Pair], matches: list[dict[str, Any]]) -> None:
    for first in range(0, len(pairs) - 9, 10):
        expected, _ = _official_precision({k: v for found in matches[first : first + 10] for k, v in found.items()})
        _assert_equal(_ours(pairs[first : first + 10])["objects"], expected, f"from {first}")


def test_average_precision_agrees_on_all_frames(pairs: list[Pair], folder: Path) -> None:
    truths = [_truth(folder, "instance_ids", pair) for pair in pairs]
    lists = [_list(folder, pair) for pair in pairs]
    expected = official.instance_level(truths, lists, (folder / "results").resolve())
    assert len(expected) == 2 + 2 * 8
    _assert_equal(_ours(pairs)["objects"], expected, "all")


def test_panoptic_quality_agrees(pairs: list[Pair], folder: Path) -> None:
    (folder / "panoptic").mkdir()
    truth = official.panoptic_truth(folder / "data", folder / "panoptic")
    annotations = {annotation["image_id"]: annotation for annotation in truth["annotations"]}
    predicted = {sample.name: official.write_panoptic(folder / "found", sample.name, scene) for sample, scene in pairs}
    pictures = folder / "panoptic" / f"cityscapes_panoptic_{official.SPLIT}"
    for pair in pairs:
        one = {**truth, "annotations": [annotations[pair[0].name]]}
        expected = official.panoptic_level(one, pictures, predicted, folder / "found")
        _assert_equal(_ours([pair])["panoptic"], expected, pair[0].name)
    expected = official.panoptic_level(truth, pictures, predicted, folder / "found")
    assert len(expected) == 3 * 3 + 3 * 19
    _assert_equal(_ours(pairs)["panoptic"], expected, "all")
