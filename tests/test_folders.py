"""Each ready description of folders, end to end: train, evaluate, predict; and what one meets on the way."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from multitask.config import factories as build
from multitask.config.trained import load_trained
from multitask.data.classes import IGNORE
from multitask.data.described import Described
from multitask.data.layout import read_png
from multitask.engine.inference import network_predictor
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.evaluation.evaluator import Evaluator
from multitask.evaluation.scoring import figure_groups
from multitask.reporting.tables import results_text
from multitask.runs.run import LAST, Run
from multitask.tasks.labels import tasks_with_labels
from tests.compose import config, small
from tests.described import WRITERS, Miniature
from tests.prediction.made import run_predict
from tests.reference import iou_by_sets, masked_errors
from tests.scripts.called import call

TASKS = {
    "bdd100k": ["semantic"],
    "mapillary_vistas": ["semantic", "instance"],
    "coco_panoptic": ["semantic", "instance"],
    "rgbd": ["semantic", "depth"],
    "cityscapes_coarse": ["semantic", "instance", "depth"],
}
"""What the frames of each have labels for."""


class Trained(NamedTuple):
    """A run of six steps.

    Attributes:
        data: what it was trained on.
        checkpoint: its last.
        figures: of its validation.
    """

    data: Miniature
    checkpoint: Path
    figures: dict[str, float]


class Answers(NamedTuple):
    """What a network says of the frames that validate.

    Attributes:
        frames: at the network's size.
        outputs: (N, C, H, W) float32 by task.
    """

    frames: Described
    outputs: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=list(WRITERS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    name = str(request.param)
    folder = tmp_path_factory.mktemp(name)
    written = WRITERS[name](folder / "data")
    given = small(
        written.root, folder / "run", f"data={name}", "data.image_size=[32,64]", "data.augmentation.crop=null"
    )
    run = Run(given)
    assert list(run.tasks) == TASKS[name]
    return Trained(written, folder / "run" / LAST, run.train())


@pytest.fixture(scope="module")
def answers(trained: Trained) -> Answers:
    loaded = load_trained(trained.checkpoint)
    frames = build.make_frames(loaded.config, loaded.config["data"]["val_split"])
    assert isinstance(frames, Described)
    on = tasks_with_labels(loaded.tasks, frames)
    predict = network_predictor(loaded.network, build.make_device(loaded.config))
    batches = list(Evaluator(frames, on, build.make_evaluation_settings(loaded.config)).batches())
    assert [name for batch in batches for name in batch.names] == frames.names
    found = [predict(batch.images) for batch in batches]
    return Answers(frames, {name: np.concatenate([batch[name].numpy() for batch in found]) for name in on})


def test_run_trains_on_what_the_frames_have(trained: Trained) -> None:
    figures = trained.figures
    assert all(math.isfinite(value) for value in figures.values())
    groups = {key.split("/")[0] for key in figures} - {"position_prior", "panoptic"}
    assert groups == set(TASKS[trained.data.name])
    assert ("panoptic/pq" in figures) == ("instance" in TASKS[trained.data.name])
    assert ("depth/abs_rel" in figures) == ("depth" in TASKS[trained.data.name])
    history = (trained.checkpoint.parent.parent / "metrics.json").read_text()
    assert json.loads(history) == pytest.approx(figures)


def test_evaluation_of_the_checkpoint_repeats_the_figures(trained: Trained, tmp_path: Path) -> None:
    split = {"mapillary_vistas": "validation"}.get(trained.data.name, "val")
    given = [f"checkpoint={trained.checkpoint}", f"split={split}", f"output_dir={tmp_path / 'figures'}"]
    figures, tasks, path = evaluate_checkpoint(config(*given, name="evaluate"), given)
    assert figures == pytest.approx(trained.figures)
    assert path == tmp_path / "figures/metrics.json"
    text = results_text(figures, figure_groups(tasks))
    assert all(name in text for name in tasks)


def test_iou_is_that_of_sets_of_pixels(trained: Trained, answers: Answers) -> None:
    classes = trained.data.classes
    place = {class_id: train_id for train_id, class_id in enumerate(classes.evaluated_ids.tolist())}
    said = answers.outputs["semantic"].argmax(1)
    truth = np.full(said.shape, IGNORE)
    for index in range(len(answers.frames)):
        class_ids = answers.frames[index].class_ids
        assert class_ids is not None
        for row, column in np.ndindex(*class_ids.shape):
            truth[index, row, column] = place.get(int(class_ids[row, column]), IGNORE)
    expected = iou_by_sets(said, truth, truth != IGNORE, len(classes.names))
    start = "semantic/iou/"
    found = {key.removeprefix(start): value for key, value in trained.figures.items() if key.startswith(start)}
    assert found == pytest.approx({classes.names[train_id]: value for train_id, value in expected.items()})
    assert trained.figures["semantic/iou_class"] == pytest.approx(sum(expected.values()) / len(expected))


def test_errors_of_depth_are_those_of_single_pixels(trained: Trained, answers: Answers) -> None:
    if "depth" not in answers.outputs:
        assert trained.data.name in ("bdd100k", "mapillary_vistas", "coco_panoptic")
        return
    said, classes = answers.outputs["depth"], trained.data.classes
    truth, pairs = np.full(said.shape, np.nan), []
    for index in range(len(answers.frames)):
        sample = answers.frames[index]
        assert sample.disparity is not None
        assert sample.camera is not None
        assert sample.class_ids is not None
        product = sample.camera.baseline * sample.camera.fx
        for pixel in np.ndindex(*sample.disparity.shape):
            if int(sample.class_ids[pixel]) in classes.unseen_ids:
                continue
            sky = sample.class_ids[pixel] == classes.sky_id
            truth[(index, 0, *pixel)] = 0 if sky else sample.disparity[pixel]
            if sample.disparity[pixel] >= product / 80:
                guess = said[(index, 0, *pixel)]
                pairs.append((product / sample.disparity[pixel], product / max(guess, product / 80)))
    mean, rms = masked_errors(said, np.nan_to_num(truth), np.isfinite(truth[:, 0]))
    assert trained.figures["depth/mean_error_px"] == pytest.approx(mean, rel=1e-5)
    assert trained.figures["depth/rms_error_px"] == pytest.approx(rms, rel=1e-5)
    relative = sum(abs(guess - true) / true for true, guess in pairs) / len(pairs)
    assert trained.figures["depth/abs_rel"] == pytest.approx(relative, rel=1e-5)
    squared = sum((guess - true) ** 2 for true, guess in pairs) / len(pairs)
    assert trained.figures["depth/rms_error_m"] == pytest.approx(math.sqrt(squared), rel=1e-5)
    close = sum(max(guess / true, true / guess) < 1.25 for true, guess in pairs)
    assert trained.figures["depth/delta_1.25"] == pytest.approx(close / len(pairs))
    if trained.data.name == "rgbd":
        metres = [true for true, _ in pairs]
        assert 0.399 < min(metres) < max(metres) < 9.91, "those of the files"


def test_pictures_are_predicted_with_the_classes_of_the_table(
    trained: Trained, answers: Answers, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    sizes = {}
    for name in answers.frames.names:
        path = answers.frames.path("image", name)
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
        with Image.open(path) as image:
            sizes[path.stem] = image.size[::-1]
    assert run_predict(trained.checkpoint, tmp_path / "in", tmp_path / "out").count == 2
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert {line["name"]: (line["height"], line["width"]) for line in lines} == sizes
    known = {label.id for label in trained.data.classes.evaluated}
    for name, size in sizes.items():
        class_ids = read_png(tmp_path / f"out/{name}_class_ids.png", "class_ids")
        assert class_ids.shape == size
        assert set(class_ids.flat) <= known
        assert (tmp_path / f"out/{name}_panel.png").is_file()


# What one meets on the way


PATTERNS = (
    "data=folder",
    "data.image=images/{split}/{name}.*",
    "data.class_ids={path: 'labels/{split}/{name}.png', labels: ids}",
)


QUICK = ("model=resnet10", "model.pretrained=null", "trainer.device=cpu", "trainer.num_workers=0")
"""For commands that are refused before they train."""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Photographs with three classes of one's own, and a file for them."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 4, "val": 2}.items():
        for kind in ("images", "labels"):
            (tmp_path / f"mine/{kind}/{split}").mkdir(parents=True)
        for index in range(count):
            ids = rng.integers(1, 4, size=(4, 8)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            photo = np.stack([ids * 80, 255 - ids * 60, ids * 10], axis=-1)
            Image.fromarray(photo).save(tmp_path / f"mine/images/{split}/{index}.jpg", quality=95)
            Image.fromarray(ids).save(tmp_path / f"mine/labels/{split}/{index}.png")
    rows = [f"  - {{name: {name}, id: {index}}}" for index, name in enumerate(("leaf", "soil", "sky"), start=1)]
    (tmp_path / "mine.yaml").write_text("\n".join(["classes:", *rows, ""]))
    return tmp_path


def told(cwd: Path, *overrides: str, script: str = "train.py") -> str:
    """The one line that a command ends with."""
    called = call(script, *overrides, f"hydra.run.dir={cwd}/hydra", cwd=cwd)
    assert called.returncode == 2
    (line,) = [line for line in called.stderr.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def test_folder_with_nothing_filled_in_is_told_what_to_fill_in(tmp_path: Path) -> None:
    assert told(tmp_path, "data=folder") == "data.image_size: needed two positive whole numbers [H, W], found '???'"
    line = told(tmp_path, "data=folder", "data.image_size=[32,64]")
    assert line.startswith("data.classes: needed one of ['camvid', ")
    assert line.endswith("or the path of a file that ends with .yaml, found '???'")
    line = told(tmp_path, "data=folder", "data.classes=cityscapes", "data.image_size=[32,64]", *QUICK)
    assert line == "data.root=data/folder: no such folder; data/README.md says how to obtain each data set"


def test_patterns_may_be_typed_as_they_are(mine: Path) -> None:
    """A class of one's own is no Python: a YAML file and keys that are typed."""
    given = [*PATTERNS, "data.root=mine", "data.classes=mine.yaml"]
    called = call("prepare_data.py", "check=true", *given, "num_workers=1", cwd=mine)
    assert called.returncode == 0, called.stderr
    assert called.stdout.count("faults: 0") == 2
    assert "| leaf " in called.stdout


def test_split_that_is_none_is_told_those_that_are(mine: Path) -> None:
    given = [*PATTERNS, "data.root=mine", "data.classes=mine.yaml", "data.image_size=[32,64]", *QUICK]
    line = told(mine, *given, "data.val_split=valid")
    assert line == "mine/images/valid: no such folder; needed split 'valid', found ['train', 'val']"
    line = told(mine, *given, "data.splits=[train]")
    assert line == "data.splits: needed split 'val', found ['train']"
