from pathlib import Path

import numpy as np
import pytest
import torch

from multitask.benchmark import official
from multitask.data.cityscapes import Cityscapes
from multitask.data.layout import Camera, file_path, write_png
from multitask.data.loader import Batch, EncodedFrames, Loader, in_order
from multitask.data.sample import Sample
from multitask.evaluation.result_files import write_results
from multitask.evaluation.scenes import make_scenes
from multitask.evaluation.scoring import SceneScorer, figure_groups
from multitask.instances import Grouping
from multitask.metrics import PANOPTIC
from multitask.tasks.base import Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES

SEMANTIC, INSTANCE, DEPTH = Semantic(CITYSCAPES), Instance(CITYSCAPES), Depth(CITYSCAPES)
TASKS: dict[str, Task] = {task.name: task for task in (SEMANTIC, INSTANCE, DEPTH)}
SIZE = (64, 128)
CAR, PERSON = 26, 24


class _Street:
    """Two frames of a road with a car and a person, in the second one the car alone."""

    def __init__(self, camera: Camera | None = None) -> None:
        self.camera = camera

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        instance_ids = np.full(SIZE, 7, dtype=np.int32)
        instance_ids[20:50, 10:50] = CAR * 1000
        if index == 0:
            instance_ids[10:40, 80:92] = PERSON * 1000 + 3
        class_ids = np.where(instance_ids >= 1000, instance_ids // 1000, instance_ids).astype(np.uint8)
        disparity = np.full(SIZE, 4, dtype=np.float32)
        return Sample(
            f"street_{index}", np.zeros((*SIZE, 3), dtype=np.uint8), class_ids, instance_ids, disparity, self.camera
        )


@pytest.fixture
def batch() -> Batch:
    (only,) = Loader(EncodedFrames(_Street(), TASKS, keep_samples=True), in_order(2, 2), 0, pin=False)
    return only


def ideal(batch: Batch) -> dict[str, torch.Tensor]:
    predictions = {name: task.ideal(batch.targets[name].value) for name, task in TASKS.items()}
    return predictions | {SEMANTIC.name: 20 * predictions[SEMANTIC.name]}


def test_make_scenes_of_ideal_predictions_is_the_truth(batch: Batch) -> None:
    scenes = make_scenes(batch.names, ideal(batch), CITYSCAPES)
    for sample, scene, ids in zip(batch.samples, scenes, ([CAR, PERSON], [CAR]), strict=True):
        np.testing.assert_array_equal(scene.train_ids, TASKS[SEMANTIC.name].encode(sample).value)
        np.testing.assert_array_equal(scene.disparity, sample.disparity)
        assert sorted(instance.class_id for instance in scene.instances) == sorted(ids)
        for instance in scene.instances:
            np.testing.assert_array_equal(
                scene.instance_map == instance.number, sample.instance_ids // 1000 == instance.class_id
            )
            assert 0 < instance.confidence <= 1


def test_make_scenes_without_a_task_leaves_out_what_it_gives(batch: Batch) -> None:
    predictions = ideal(batch)
    for name in TASKS:
        scene = make_scenes(batch.names, {key: value for key, value in predictions.items() if key != name}, CITYSCAPES)[
            0
        ]
        assert (scene.train_ids is None) == (name == SEMANTIC.name)
        assert (scene.instance_map is None) == (name != DEPTH.name)
        assert (scene.disparity is None) == (name == DEPTH.name)


def test_make_scenes_names_the_frame_whose_vectors_are_not_finite(batch: Batch) -> None:
    predictions = ideal(batch)
    predictions[INSTANCE.name][1, 0, 25, 20] = float("nan")
    with pytest.raises(ValueError, match=r"^street_1: offsets .*instance task.*needed finite numbers, found 1 of"):
        make_scenes(batch.names, predictions, CITYSCAPES)


def test_scene_scorer_of_ideal_predictions_is_perfect(batch: Batch) -> None:
    scorer = SceneScorer(TASKS, CITYSCAPES, Grouping())
    scorer.update(batch, ideal(batch))
    figures = scorer.compute()
    for key in ("semantic/iou_class", "semantic/iiou_class", "instance/ap", "instance/ap50", "panoptic/pq"):
        assert figures[key] == 1, key
    assert "instance/ap/car" in figures
    assert "instance/ap100m" not in figures, "no camera"
    assert "depth/rms_error_m" not in figures, "no camera"


def test_every_figure_of_the_tables_is_computed() -> None:
    frames = EncodedFrames(_Street(camera=Camera(0.2, 120.0, 120.0, 64.0, 32.0)), TASKS, keep_samples=True)
    (batch,) = Loader(frames, in_order(2, 2), 0, pin=False)
    scorer = SceneScorer(TASKS, CITYSCAPES, Grouping())
    scorer.update(batch, ideal(batch))
    figures = scorer.compute()
    for name, task in TASKS.items():
        metric = task.metric()
        metric.update(ideal(batch)[name], batch.targets[name])
        figures |= {f"{name}/{key}": value for key, value in metric.compute().items()}
    shown = {f"{group}/{figure.key}": figure for group, listed in figure_groups(TASKS).items() for figure in listed}
    assert shown.keys() <= figures.keys()
    for key, figure in shown.items():
        assert figures[key] == pytest.approx(float(figure.higher_is_better)), key


def test_scene_scorer_agrees_with_the_tasks_own_figures(batch: Batch) -> None:
    predictions = {name: torch.randn(2, task.channels, *SIZE) for name, task in TASKS.items()}
    metric = SEMANTIC.metric()
    metric.update(predictions[SEMANTIC.name], batch.targets[SEMANTIC.name])
    scorer = SceneScorer(TASKS, CITYSCAPES, Grouping())
    scorer.update(batch, predictions)
    figures = scorer.compute()
    for key, value in metric.compute().items():
        assert figures[f"semantic/{key}"] == pytest.approx(value, abs=1e-12)


def test_scene_scorer_leaves_out_what_nobody_asked_for(batch: Batch) -> None:
    for names, expected in (
        ([INSTANCE.name], {"instance"}),
        ([SEMANTIC.name], {"semantic"}),
        ([SEMANTIC.name, INSTANCE.name], {"semantic", "instance", PANOPTIC}),
    ):
        tasks = {name: TASKS[name] for name in names}
        scorer = SceneScorer(tasks, CITYSCAPES, Grouping())
        scorer.update(batch, ideal(batch))
        assert {key.split("/")[0] for key in scorer.compute()} == expected == set(figure_groups(tasks))


def test_scene_scorer_writes_every_frame(batch: Batch, tmp_path: Path) -> None:
    with write_results(tmp_path / "results", CITYSCAPES) as writer:
        SceneScorer(TASKS, CITYSCAPES, Grouping(), writer).update(batch, ideal(batch))
    lines = [(tmp_path / f"results/instance-level/street_{i}.txt").read_text().splitlines() for i in range(2)]
    assert [len(x) for x in lines] == [2, 1]
    assert len(list((tmp_path / "results/pixel-level").iterdir())) == 2


def test_scene_scorer_in_the_order_of_frames_or_not_is_the_same(batch: Batch) -> None:
    torch.manual_seed(0)
    predictions = {name: value + torch.randn_like(value) for name, value in ideal(batch).items()}
    results = []
    for order in ([0, 1], [1, 0]):
        scorer = SceneScorer(TASKS, CITYSCAPES, Grouping())
        for frame in order:
            part = {name: value[frame : frame + 1] for name, value in predictions.items()}
            scorer.update(batch[frame : frame + 1], part)
        results.append(scorer.compute())
    assert results[0] == pytest.approx(results[1], abs=1e-12)


def test_instances_of_a_task_that_is_off_are_not_made(batch: Batch) -> None:
    predictions = ideal(batch)
    predictions[INSTANCE.name][:] = float("nan")
    SceneScorer({SEMANTIC.name: SEMANTIC, DEPTH.name: DEPTH}, CITYSCAPES, Grouping()).update(batch, predictions)
    with pytest.raises(ValueError, match="needed finite numbers"):
        SceneScorer({INSTANCE.name: INSTANCE}, CITYSCAPES, Grouping()).update(batch, predictions)


def test_make_scenes_names_the_frame_whose_classes_are_not_finite(batch: Batch) -> None:
    predictions = {SEMANTIC.name: ideal(batch)[SEMANTIC.name]}
    predictions[SEMANTIC.name][0, :, 3, 4] = float("nan")
    with pytest.raises(ValueError, match=r"^street_0: class scores: needed finite numbers, found 1 px"):
        make_scenes(batch.names, predictions, CITYSCAPES)


def test_figures_are_those_of_the_official_scripts_run_on_the_written_files(tmp_path: Path) -> None:
    """From predictions by way of instances and files to AP."""
    root = write_dataset_of_streets(tmp_path / "frames")
    frames = Cityscapes(root, official.SPLIT, SIZE, CITYSCAPES)
    (batch,) = Loader(EncodedFrames(frames, TASKS, keep_samples=True), in_order(2, 2), 0, pin=False)
    torch.manual_seed(0)
    predictions = ideal(batch)
    predictions[INSTANCE.name] += 2 * torch.randn_like(predictions[INSTANCE.name])
    predictions[SEMANTIC.name][:, :, 20:24] = predictions[SEMANTIC.name][:, :, 4:8]
    scorer = SceneScorer(TASKS, CITYSCAPES, Grouping())
    with write_results(tmp_path / "results", CITYSCAPES) as writer:
        scorer = SceneScorer(TASKS, CITYSCAPES, Grouping(), writer)
        scorer.update(batch, predictions)
    truths = [frames.path("instance_ids", name) for name in batch.names]
    lists = [tmp_path / "results/instance-level" / f"{name}.txt" for name in batch.names]
    expected = official.instance_level(truths, lists, tmp_path / "results")
    figures = scorer.compute()
    assert 0 < expected["ap"] < 1
    for key, value in expected.items():
        assert figures[f"{INSTANCE.name}/{key}"] == pytest.approx(value, abs=1e-9), key


def write_dataset_of_streets(root: Path) -> Path:
    for index in range(2):
        sample = _Street()[index]
        name = f"street_{index:06}_000019"
        for kind, layer in (
            ("image", sample.image),
            ("class_ids", sample.class_ids),
            ("instance_ids", sample.instance_ids.astype(np.uint16)),
            ("disparity", np.where(sample.disparity >= 0, sample.disparity * 256 + 1, 0).astype(np.uint16)),
        ):
            write_png(file_path(root, kind, official.SPLIT, name), layer)
    return root
